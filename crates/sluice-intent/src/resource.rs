//! The resource tag: 16 bytes that bind an intent to what is bought, so that a payment for A cannot buy B.

use solana_sha256_hasher::hashv;

use crate::Key;

/// Bytes of a resource tag.
pub const RESOURCE_LEN: usize = 16;
/// The first 16 bytes of sha256 over kind and length-prefixed fields.
pub type Resource = [u8; RESOURCE_LEN];

const DOMAIN: &[u8; 17] = b"sluice/resource/1";

/// Kind 0: one HTTP request. `body_hash` is the sha256 of the body (of nothing, for an empty one).
///
/// The method is hashed as given: callers pass it in capitals, as HTTP does.
pub fn of_request(method: &str, url: &str, body_hash: &Key) -> Resource {
    tag(&[
        DOMAIN,
        &[0],
        &length(method.as_bytes()),
        method.as_bytes(),
        &length(url.as_bytes()),
        url.as_bytes(),
        &length(body_hash),
        body_hash,
    ])
}

/// Kind 1: the payment identifier that a server gave.
pub fn of_identifier(identifier: &[u8]) -> Resource {
    tag(&[DOMAIN, &[1], &length(identifier), identifier])
}

fn tag(parts: &[&[u8]]) -> Resource {
    let hash = hashv(parts).to_bytes();
    let mut tag = [0u8; RESOURCE_LEN];
    tag.copy_from_slice(&hash[..RESOURCE_LEN]);
    tag
}

/// A field's length as u32, little-endian. No field of ours comes near 4 GiB; one that did would saturate.
fn length(field: &[u8]) -> [u8; 4] {
    u32::try_from(field.len()).unwrap_or(u32::MAX).to_le_bytes()
}
