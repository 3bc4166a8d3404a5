//! Whom to tell about a flaw, in the binary itself, in the form that explorers and `query-security-txt` read:
//! fields and values between two marks, each ended by a zero byte.

/// A field that a deployment fills in when it builds the program.
macro_rules! or_default {
    ($name:literal, $default:literal) => {
        match option_env!($name) {
            Some(value) => value,
            None => $default,
        }
    };
}

const FIELDS: &[&str] = &[
    "=======BEGIN SECURITY.TXT V1=======",
    "name",
    "Sluice",
    "project_url",
    or_default!("SLUICE_PROJECT_URL", "none given by this build"),
    "contacts",
    or_default!(
        "SLUICE_SECURITY_CONTACTS",
        "other:the upgrade authority of this program"
    ),
    "policy",
    or_default!("SLUICE_SECURITY_POLICY", "SECURITY.md in the source"),
    "preferred_languages",
    "en",
    "auditors",
    "none",
];
const END: &[u8] = b"=======END SECURITY.TXT V1=======\0";

const LEN: usize = {
    let (mut len, mut i) = (END.len(), 0);
    while i < FIELDS.len() {
        len += FIELDS[i].len() + 1;
        i += 1;
    }
    len
};

/// The text. Nothing reads it on chain; `used` keeps the linker from dropping it.
#[used]
pub static SECURITY_TXT: [u8; LEN] = {
    let mut text = [0u8; LEN];
    let (mut at, mut i) = (0, 0);
    while i < FIELDS.len() {
        let field = FIELDS[i].as_bytes();
        let mut j = 0;
        while j < field.len() {
            text[at] = field[j];
            at += 1;
            j += 1;
        }
        at += 1;
        i += 1;
    }
    let mut j = 0;
    while j < END.len() {
        text[at] = END[j];
        at += 1;
        j += 1;
    }
    text
};
