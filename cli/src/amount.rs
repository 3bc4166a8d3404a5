//! Amounts as people write them: `1.50` in tokens, `1500000u` in atomic units.

use std::str::FromStr;

use sluice_intent::UNLIMITED;

/// An amount on the command line, before the mint's decimals are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Atomic units.
    Units(u64),
    /// `digits / 10^scale` tokens.
    Tokens {
        /// All digits, without the point.
        digits: u64,
        /// How many of them stand after the point.
        scale: u8,
    },
    /// No limit.
    Unlimited,
}

/// Why a text is no amount, or no amount of a mint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not a number as they are written here.
    #[error("{0:?} is not an amount: write tokens like 1.50, or atomic units like 1500000u")]
    Syntax(String),
    /// It does not fit 64 bits.
    #[error("{0} is more than any token account can hold")]
    TooLarge(String),
    /// Finer than the mint's atomic unit.
    #[error("{text} has {scale} decimals, and the mint has {decimals}")]
    TooFine {
        /// The amount.
        text: String,
        /// Its decimals.
        scale: u8,
        /// The mint's.
        decimals: u8,
    },
    /// `unlimited` where a number is needed.
    #[error("an amount is needed here, not \"unlimited\"")]
    NotALimit,
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        let syntax = || AmountError::Syntax(text.to_owned());
        let too_large = |_| AmountError::TooLarge(text.to_owned());
        // `parse` alone would take a sign.
        let digits_only = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if let Some(units) = text.strip_suffix('u') {
            let units = units.replace('_', "");
            if !digits_only(&units) {
                return Err(syntax());
            }
            return units.parse().map(Self::Units).map_err(too_large);
        }
        let text = text.replace('_', "");
        let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
        if !digits_only(whole) || (text.contains('.') && !digits_only(part)) {
            return Err(syntax());
        }
        // 1.500 is 1.5: what only pads must not count against the mint's decimals.
        let part = part.trim_end_matches('0');
        let digits = format!("{whole}{part}").parse().map_err(too_large)?;
        let scale = u8::try_from(part.len()).map_err(|_| AmountError::TooLarge(text.clone()))?;
        Ok(Self::Tokens { digits, scale })
    }
}

impl Amount {
    /// Atomic units of a mint with `decimals`. Unlimited is not an amount.
    pub fn units(self, decimals: u8) -> Result<u64, AmountError> {
        match self {
            Self::Unlimited => Err(AmountError::NotALimit),
            other => other.limit(decimals),
        }
    }

    /// Atomic units of a mint with `decimals`, as a limit.
    pub fn limit(self, decimals: u8) -> Result<u64, AmountError> {
        match self {
            Self::Units(units) => Ok(units),
            Self::Unlimited => Ok(UNLIMITED),
            Self::Tokens { digits, scale } => {
                let text = || plain(digits, scale);
                let missing = decimals
                    .checked_sub(scale)
                    .ok_or_else(|| AmountError::TooFine {
                        text: text(),
                        scale,
                        decimals,
                    })?;
                10u64
                    .checked_pow(u32::from(missing))
                    .and_then(|power| digits.checked_mul(power))
                    .filter(|units| *units != UNLIMITED)
                    .ok_or_else(|| AmountError::TooLarge(text()))
            }
        }
    }
}

/// How amounts of one mint are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The mint's decimals.
    pub decimals: u8,
    /// The token's name, or as much as is known of it.
    pub symbol: String,
}

impl Unit {
    /// Both forms: `1.50 USDC (1500000u)`.
    pub fn both(&self, units: u64) -> String {
        format!(
            "{} {} ({units}u)",
            tokens(units, self.decimals),
            self.symbol
        )
    }

    /// A limit, which may be none.
    pub fn limit(&self, units: u64) -> String {
        if units == UNLIMITED {
            "unlimited".to_owned()
        } else {
            self.both(units)
        }
    }
}

/// Tokens, with at least two decimals where the mint has them: a price of 1.5 reads like a typing mistake.
pub fn tokens(units: u64, decimals: u8) -> String {
    let mut text = plain(units, decimals);
    if let Some(point) = text.find('.') {
        let keep = (point + 3).min(text.len());
        while text.len() > keep && text.ends_with('0') {
            text.pop();
        }
    }
    text
}

/// Lamports as SOL.
pub fn sol(lamports: u64) -> String {
    format!("{} SOL ({lamports} lamports)", tokens(lamports, 9))
}

fn plain(digits: u64, scale: u8) -> String {
    let scale = usize::from(scale);
    if scale == 0 {
        return digits.to_string();
    }
    let text = format!("{digits:0>width$}", width = scale + 1);
    let (whole, part) = text.split_at(text.len() - scale);
    format!("{whole}.{part}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn units(text: &str, decimals: u8) -> Result<u64, AmountError> {
        text.parse::<Amount>()?.units(decimals)
    }

    #[test]
    fn tokens_and_units_are_told_apart() {
        assert_eq!(units("1.50", 6), Ok(1_500_000));
        assert_eq!(units("1500000u", 6), Ok(1_500_000));
        assert_eq!(units("1", 6), Ok(1_000_000));
        assert_eq!(units("0.000001", 6), Ok(1));
        assert_eq!(units("1.5000000000", 6), Ok(1_500_000));
        assert_eq!(units("1_000u", 6), Ok(1_000));
        assert_eq!(units("7", 0), Ok(7));
    }

    #[test]
    fn what_is_not_an_amount_is_refused() {
        for text in [
            "", ".", "1.", ".5", "-1", "+1", "1,5", "1e3", "u", "-1u", "1.5u", "0x1", "١",
        ] {
            assert!(units(text, 6).is_err(), "{text:?}");
        }
        assert!(matches!(
            units("0.0000001", 6),
            Err(AmountError::TooFine { .. })
        ));
        assert!(matches!(
            units("18446744073709.551616", 6),
            Err(AmountError::TooLarge(_))
        ));
        assert!(matches!(
            units("18446744073709551616u", 6),
            Err(AmountError::TooLarge(_))
        ));
        assert_eq!(units("unlimited", 6), Err(AmountError::NotALimit));
        // Written in tokens, the top value would quietly mean "no limit".
        assert!(matches!(
            units("18446744073709.551615", 6),
            Err(AmountError::TooLarge(_))
        ));
    }

    #[test]
    fn amounts_are_written_to_be_read() {
        assert_eq!(tokens(1_500_000, 6), "1.50");
        assert_eq!(tokens(245, 6), "0.000245");
        assert_eq!(tokens(0, 6), "0.00");
        assert_eq!(tokens(12, 1), "1.2");
        assert_eq!(tokens(12, 0), "12");
        assert_eq!(sol(5_000), "0.000005 SOL (5000 lamports)");
        let usdc = Unit {
            decimals: 6,
            symbol: "USDC".to_owned(),
        };
        assert_eq!(usdc.both(1_500_000), "1.50 USDC (1500000u)");
        assert_eq!(usdc.limit(u64::MAX), "unlimited");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(amount in 0..u64::MAX, decimals in 0u8..=19) {
            prop_assert_eq!(units(&tokens(amount, decimals), decimals), Ok(amount));
            prop_assert_eq!(units(&format!("{amount}u"), decimals), Ok(amount));
        }

        #[test]
        fn no_text_panics(text in "\\PC*", decimals in any::<u8>()) {
            let _ = units(&text, decimals);
        }

        #[test]
        fn more_tokens_are_never_fewer_units(a in 0u64..1 << 40, b in 0u64..1 << 40) {
            let read = |value: u64| units(&tokens(value, 9), 9).unwrap();
            prop_assert_eq!(a.cmp(&b), read(a).cmp(&read(b)));
        }
    }
}
