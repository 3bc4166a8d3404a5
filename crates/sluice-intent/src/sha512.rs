//! SHA-512 of the one input that the program hashes: `R ‖ key ‖ message`, 104 bytes, a single block.
//!
//! Off chain and on chain run this same code. On chain it is what a signature costs most, next to the curve
//! syscall: the forms of the functions below are those that take the fewest instructions of a machine
//! without rotates and with ten registers, and the loops keep the program small. With the `sol_sha512`
//! syscall on mainnet this module goes.

use crate::{Digest, Key, MESSAGE_TAG};

/// Start of the state.
const IV: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// One constant for each round.
static ROUND: [u64; 80] = [
    0x428a_2f98_d728_ae22,
    0x7137_4491_23ef_65cd,
    0xb5c0_fbcf_ec4d_3b2f,
    0xe9b5_dba5_8189_dbbc,
    0x3956_c25b_f348_b538,
    0x59f1_11f1_b605_d019,
    0x923f_82a4_af19_4f9b,
    0xab1c_5ed5_da6d_8118,
    0xd807_aa98_a303_0242,
    0x1283_5b01_4570_6fbe,
    0x2431_85be_4ee4_b28c,
    0x550c_7dc3_d5ff_b4e2,
    0x72be_5d74_f27b_896f,
    0x80de_b1fe_3b16_96b1,
    0x9bdc_06a7_25c7_1235,
    0xc19b_f174_cf69_2694,
    0xe49b_69c1_9ef1_4ad2,
    0xefbe_4786_384f_25e3,
    0x0fc1_9dc6_8b8c_d5b5,
    0x240c_a1cc_77ac_9c65,
    0x2de9_2c6f_592b_0275,
    0x4a74_84aa_6ea6_e483,
    0x5cb0_a9dc_bd41_fbd4,
    0x76f9_88da_8311_53b5,
    0x983e_5152_ee66_dfab,
    0xa831_c66d_2db4_3210,
    0xb003_27c8_98fb_213f,
    0xbf59_7fc7_beef_0ee4,
    0xc6e0_0bf3_3da8_8fc2,
    0xd5a7_9147_930a_a725,
    0x06ca_6351_e003_826f,
    0x1429_2967_0a0e_6e70,
    0x27b7_0a85_46d2_2ffc,
    0x2e1b_2138_5c26_c926,
    0x4d2c_6dfc_5ac4_2aed,
    0x5338_0d13_9d95_b3df,
    0x650a_7354_8baf_63de,
    0x766a_0abb_3c77_b2a8,
    0x81c2_c92e_47ed_aee6,
    0x9272_2c85_1482_353b,
    0xa2bf_e8a1_4cf1_0364,
    0xa81a_664b_bc42_3001,
    0xc24b_8b70_d0f8_9791,
    0xc76c_51a3_0654_be30,
    0xd192_e819_d6ef_5218,
    0xd699_0624_5565_a910,
    0xf40e_3585_5771_202a,
    0x106a_a070_32bb_d1b8,
    0x19a4_c116_b8d2_d0c8,
    0x1e37_6c08_5141_ab53,
    0x2748_774c_df8e_eb99,
    0x34b0_bcb5_e19b_48a8,
    0x391c_0cb3_c5c9_5a63,
    0x4ed8_aa4a_e341_8acb,
    0x5b9c_ca4f_7763_e373,
    0x682e_6ff3_d6b2_b8a3,
    0x748f_82ee_5def_b2fc,
    0x78a5_636f_4317_2f60,
    0x84c8_7814_a1f0_ab72,
    0x8cc7_0208_1a64_39ec,
    0x90be_fffa_2363_1e28,
    0xa450_6ceb_de82_bde9,
    0xbef9_a3f7_b2c6_7915,
    0xc671_78f2_e372_532b,
    0xca27_3ece_ea26_619c,
    0xd186_b8c7_21c0_c207,
    0xeada_7dd6_cde0_eb1e,
    0xf57d_4f7f_ee6e_d178,
    0x06f0_67aa_7217_6fba,
    0x0a63_7dc5_a2c8_98a6,
    0x113f_9804_bef9_0dae,
    0x1b71_0b35_131c_471b,
    0x28db_77f5_2304_7d84,
    0x32ca_ab7b_40c7_2493,
    0x3c9e_be0a_15c9_bebc,
    0x431d_67c4_9c10_0d4c,
    0x4cc5_d4be_cb3e_42b6,
    0x597f_299c_fc65_7e2a,
    0x5fcb_6fab_3ad6_faec,
    0x6c44_198c_4a47_5817,
];

/// Padding after 104 bytes, which are 13 words: a one bit, zeros, and the length in bits.
const PADDING: [u64; 3] = [1 << 63, 0, 8 * 104];

/// The challenge of a signature that starts with `r`, by `key`, over the message of `digest`.
#[inline(never)]
pub(crate) fn challenge(r: &Key, key: &Key, digest: &Digest) -> [u8; 64] {
    let mut state = IV;
    for terms in terms(r, key, digest).as_chunks().0 {
        eight_rounds(&mut state, terms);
    }
    let mut hash = [0; 64];
    for (bytes, (end, start)) in hash.as_chunks_mut().0.iter_mut().zip(state.iter().zip(IV)) {
        *bytes = end.wrapping_add(start).to_be_bytes();
    }
    hash
}

/// What each round adds to the state: its word of the message schedule, plus its constant.
#[inline(always)]
fn terms(r: &Key, key: &Key, digest: &Digest) -> [u64; 80] {
    let word = |bytes: &Key, i: usize| u64::from_be_bytes(bytes.as_chunks().0[i]);
    let mut words = [0; 80];
    for i in 0..4 {
        words[i] = word(r, i);
        words[4 + i] = word(key, i);
        words[9 + i] = word(digest, i);
    }
    words[8] = u64::from_be_bytes(*MESSAGE_TAG);
    words[13..16].copy_from_slice(&PADDING);
    for first in (0..64).step_by(8) {
        for i in first..first + 8 {
            words[i + 16] = words[i]
                .wrapping_add(gamma0(words[i + 1]))
                .wrapping_add(words[i + 9])
                .wrapping_add(gamma1(words[i + 14]));
            // No later word is made of this one.
            words[i] = words[i].wrapping_add(ROUND[i]);
        }
    }
    for i in 64..80 {
        words[i] = words[i].wrapping_add(ROUND[i]);
    }
    words
}

/// Eight rounds, after which each variable is back in its place.
#[inline(always)]
fn eight_rounds(state: &mut [u64; 8], terms: &[u64; 8]) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    macro_rules! round {
        ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $i:literal) => {
            $h = $h.wrapping_add(terms[$i]);
            $h = $h.wrapping_add((($f ^ $g) & $e) ^ $g);
            $h = $h.wrapping_add(sigma1($e));
            $d = $d.wrapping_add($h);
            $h = $h.wrapping_add((($a ^ $b) & ($b ^ $c)) ^ $b);
            $h = $h.wrapping_add(sigma0($a));
        };
    }
    round!(a b c d e f g h, 0);
    round!(h a b c d e f g, 1);
    round!(g h a b c d e f, 2);
    round!(f g h a b c d e, 3);
    round!(e f g h a b c d, 4);
    round!(d e f g h a b c, 5);
    round!(c d e f g h a b, 6);
    round!(b c d e f g h a, 7);
    *state = [a, b, c, d, e, f, g, h];
}

// FIPS 180-4 writes each of these as rotations of `x`. Nested, the same rotations need fewer copies.

/// `x` rotated right by 28, 34 and 39.
#[inline(always)]
fn sigma0(x: u64) -> u64 {
    ((x.rotate_right(5) ^ x).rotate_right(6) ^ x).rotate_right(28)
}

/// `x` rotated right by 14, 18 and 41.
#[inline(always)]
fn sigma1(x: u64) -> u64 {
    ((x.rotate_right(23) ^ x).rotate_right(4) ^ x).rotate_right(14)
}

/// `x` rotated right by 1 and 8, and shifted by 7.
#[inline(always)]
fn gamma0(x: u64) -> u64 {
    (x.rotate_right(7) ^ x).rotate_right(1) ^ (x >> 7)
}

/// `x` rotated right by 19 and 61, and shifted by 6.
#[inline(always)]
fn gamma1(x: u64) -> u64 {
    (x.rotate_right(42) ^ x).rotate_right(19) ^ (x >> 6)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::intent::message;
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha512};

    fn expected(r: &Key, key: &Key, digest: &Digest) -> [u8; 64] {
        Sha512::new()
            .chain_update(r)
            .chain_update(key)
            .chain_update(message(digest))
            .finalize()
            .into()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn any_challenge_is_the_one_of_another_implementation(
            r in any::<Key>(), key in any::<Key>(), digest in any::<Digest>(),
        ) {
            prop_assert_eq!(challenge(&r, &key, &digest), expected(&r, &key, &digest));
        }
    }

    #[test]
    fn every_bit_of_the_input_counts() {
        let inputs = [[0; 32], [0xff; 32]];
        for start in inputs {
            for bit in 0..3 * 256 {
                let mut fields = [start; 3];
                fields[bit / 256][bit % 256 / 8] ^= 1 << (bit % 8);
                let [r, key, digest] = &fields;
                let hash = challenge(r, key, digest);
                assert_eq!(hash, expected(r, key, digest), "bit {bit}");
                assert_ne!(hash, challenge(&start, &start, &start), "bit {bit}");
            }
        }
    }
}
