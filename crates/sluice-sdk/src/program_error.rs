//! The program's errors by their numbers, so that a tool can say what went wrong without the program's code.

/// The first number of the program's own errors; below lie the framework's.
pub const OFFSET: u32 = 6_000;

/// The program's message for a custom error code; `None` for a code that this version does not know.
pub fn message(code: u32) -> Option<&'static str> {
    let at = code.checked_sub(OFFSET)?;
    MESSAGES
        .iter()
        .find(|(number, _)| *number == at)
        .map(|(_, text)| *text)
}

const MESSAGES: &[(u32, &str)] = &[
    (1, "the nonce account does not exist: open it first"),
    (2, "not a writable nonce account of this program"),
    (3, "the nonce account's layout is of another version"),
    (4, "the nonce account is for another mint than the service"),
    (5, "a flag of the entry is unknown"),
    (6, "the lane has no key: set it first"),
    (7, "the lane's key has expired"),
    (8, "the lane's scope does not cover this service"),
    (9, "the intent has expired"),
    (
        10,
        "the intent expires further ahead than the config allows",
    ),
    (11, "the nonce is used"),
    (12, "the nonce is below the window"),
    (13, "the nonce is too far above the window"),
    (14, "over the lane's limit a payment"),
    (15, "over the lane's limit a period"),
    (16, "over the lane's limit in all"),
    (17, "below the minimum of the service or the mint"),
    (18, "above the maximum of the mint"),
    (19, "the signature is not the lane key's over this intent"),
    (
        20,
        "not the token account that the nonce account may pull from",
    ),
    (
        21,
        "the source is closed or not a token account of the mint",
    ),
    (22, "the source no longer belongs to the payer"),
    (23, "the source is frozen"),
    (
        24,
        "the source's delegate is not the nonce account: approve it",
    ),
    (25, "the approved amount is used up: approve more"),
    (26, "the source holds too little"),
    (27, "the source is the vault or a leg of the split"),
    (100, "settlement is paused"),
    (101, "the facilitator is suspended"),
    (102, "settlement in this mint is switched off"),
    (103, "the service is closed"),
    (
        104,
        "the fee payer is not a relayer key of the service's facilitator",
    ),
    (105, "the facilitator is not the service's"),
    (
        106,
        "the mint is not the service's, or not the accepted one",
    ),
    (107, "the vault is not the service's"),
    (108, "a destination is not the one in the terms"),
    (
        109,
        "the treasury's token account is not the accepted mint's",
    ),
    (110, "the token program is not the mint's"),
    (
        111,
        "the accounts after the fixed ones do not fit the instruction",
    ),
    (
        112,
        "nothing can enter or leave the vault now: it is frozen, or its mint paused or hooked",
    ),
    (
        113,
        "the mint has an extension, a fee, a hook or a pause that was not accepted",
    ),
    (
        114,
        "nothing to distribute: the vault holds too little, or nobody can be paid",
    ),
    (120, "only the program's upgrade authority may do this"),
    (121, "only the admin may do this"),
    (122, "only the admin or, to pause, the guardian may do this"),
    (123, "only the payer may do this"),
    (124, "only the account's authority may do this"),
    (125, "only the key that was proposed may accept"),
    (
        126,
        "only the payer may close this now; its rent payer after 30 idle days",
    ),
    (
        130,
        "over the cap in code: treasury 1000 bps, facilitator 5000 bps, intent life 3600 s",
    ),
    (131, "the intent life must be above 0 s"),
    (132, "the zero address is not allowed here"),
    (133, "the account's layout is of another version"),
    (134, "not the account of this program that belongs here"),
    (
        141,
        "the native mint cannot be accepted: wrapped SOL can change without a transfer",
    ),
    (142, "not an initialised mint of a known token program"),
    (143, "not a usable token account of this mint and owner"),
    (144, "the minimum is above the maximum"),
    (
        145,
        "an extension that no mint may be accepted with, or a classic mint with any",
    ),
    (
        150,
        "1 to 8 distinct relayer keys, none of them zero or an authority",
    ),
    (160, "a service needs 1 to 8 recipients"),
    (
        161,
        "the recipients' shares must each be above 0 and add up to 10000 bps",
    ),
    (162, "the same recipient stands twice"),
    (163, "the service itself cannot be a recipient"),
    (164, "below the facilitator's minimum share"),
    (165, "the facilitator's share is over its cap"),
    (166, "the service has the current treasury share already"),
    (
        170,
        "lane 0 or 1; lane 0 takes the payer's own key or none; the scope is unknown",
    ),
    (
        171,
        "a nonce account cannot be closed in the slot in which it was opened: try again",
    ),
    (180, "arithmetic overflow"),
    (181, "the account exists already"),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The table is a copy; this keeps it one.
    #[test]
    fn the_table_is_the_programs() {
        let source = include_str!("../../../programs/sluice/src/error.rs");
        let mut expected = Vec::new();
        for line in source.lines().map(str::trim) {
            // `Name = number, "text";`, one a line.
            let Some((head, text)) = line.split_once(", \"") else {
                continue;
            };
            let (Some((_, number)), Some(text)) =
                (head.split_once(" = "), text.strip_suffix("\";"))
            else {
                continue;
            };
            let number: u32 = number.parse().unwrap();
            expected.push((number, text));
        }
        assert!(expected.len() > 50);
        assert_eq!(MESSAGES, expected);
    }

    #[test]
    fn other_codes_have_no_message() {
        assert_eq!(message(OFFSET + 121), Some("only the admin may do this"));
        assert_eq!(message(OFFSET), None);
        assert_eq!(message(3_012), None);
    }
}
