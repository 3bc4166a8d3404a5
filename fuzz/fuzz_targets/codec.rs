//! An entry's 101 bytes: every pattern is an entry, each field lies where the layout says, and writing gives the
//! same bytes back. What is narrower than its byte (flags, scope, reason) is read strictly.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_intent::{ENTRY_LEN, Entry, Flags, Scope, Skip};

fuzz_target!(|bytes: [u8; ENTRY_LEN]| {
    let entry = Entry::decode(&bytes);
    assert_eq!(entry.encode(), bytes);

    let (signature, rest) = bytes.split_at(64);
    let (amount, rest) = rest.split_at(8);
    let (nonce, rest) = rest.split_at(8);
    let (expires_at, rest) = rest.split_at(4);
    let (resource, flags) = rest.split_at(16);
    assert_eq!(entry.signature, signature);
    assert_eq!(u128::from(entry.amount), little_endian(amount));
    assert_eq!(u128::from(entry.nonce), little_endian(nonce));
    assert_eq!(u128::from(entry.expires_at), little_endian(expires_at));
    assert_eq!(entry.resource, resource);
    assert_eq!([entry.flags], flags);

    match Flags::parse(entry.flags) {
        Ok(flags) => {
            assert!(flags.lane <= 1);
            assert_eq!(flags.to_byte(), entry.flags);
        }
        Err(skip) => {
            assert_eq!(skip, Skip::UnknownFlag);
            assert!(entry.flags > 1);
        }
    }
    // The scope of a lane and the reason of a refusal are bytes of others too.
    let mut key = [0; 32];
    key.copy_from_slice(&signature[..32]);
    match Scope::from_parts(entry.flags, key) {
        Some(Scope::Any) => assert_eq!(entry.flags, 0),
        Some(scope) => assert_eq!(scope.to_parts(), (entry.flags, key)),
        None => assert!(entry.flags > 3),
    }
    match Skip::from_code(entry.flags) {
        Some(skip) => assert_eq!(skip.code(), entry.flags),
        None => assert!(Skip::ALL.iter().all(|skip| skip.code() != entry.flags)),
    }
});

fn little_endian(bytes: &[u8]) -> u128 {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum * 256 + u128::from(*byte))
}
