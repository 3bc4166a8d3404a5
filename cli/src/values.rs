//! Values on the command line beyond numbers: durations, scopes, shares.

use std::str::FromStr;

use sluice_intent::Scope;
use sluice_sdk::{Address, instructions::RecipientArg};

/// Seconds, written as 90, 90s, 15m, 12h, 30d or 4w.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub u64);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor = match &text[number.len()..] {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            _ => 0,
        };
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = if digits {
            number.parse::<u64>().ok()
        } else {
            None
        };
        seconds
            .and_then(|seconds| seconds.checked_mul(factor))
            .filter(|seconds| *seconds > 0)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a duration: write 90s, 15m, 12h, 30d or 4w"))
    }
}

/// A number of seconds as a person says it.
pub fn duration(seconds: u64) -> String {
    for (name, length) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds >= length && seconds.is_multiple_of(length) {
            return format!("{}{name}", seconds / length);
        }
    }
    format!("{seconds}s")
}

/// A unix second as a date in UTC.
pub fn date(unix: i64) -> String {
    if unix == i64::MAX {
        return "never".to_owned();
    }
    // Days to a civil date, by Howard Hinnant's algorithm: a calendar is not worth a dependency.
    let (days, seconds) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// A scope, written as any, service:ADDRESS, authority:ADDRESS or facilitator:ADDRESS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopeArg(pub Scope);

impl FromStr for ScopeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "any" {
            return Ok(Self(Scope::Any));
        }
        let bad = || {
            format!(
                "{text:?} is not a scope: any, service:ADDRESS, authority:ADDRESS or facilitator:ADDRESS"
            )
        };
        let (kind, key) = text.split_once(':').ok_or_else(bad)?;
        let key = Address::from_str(key).map_err(|_| bad())?.to_bytes();
        match kind {
            "service" => Ok(Self(Scope::Service(key))),
            "authority" => Ok(Self(Scope::Authority(key))),
            "facilitator" => Ok(Self(Scope::Facilitator(key))),
            _ => Err(bad()),
        }
    }
}

/// A scope as it is written.
pub fn scope(kind: u8, key: [u8; 32]) -> String {
    let (name, key) = match Scope::from_parts(kind, key) {
        Some(Scope::Any) => return "any".to_owned(),
        Some(Scope::Service(key)) => ("service", key),
        Some(Scope::Authority(key)) => ("authority", key),
        Some(Scope::Facilitator(key)) => ("facilitator", key),
        None => ("unknown", key),
    };
    format!("{name}:{}", Address::new_from_array(key))
}

/// A recipient, written as OWNER=BPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(pub RecipientArg);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} is not a recipient: write OWNER=BPS, and all BPS must add up to 10000"
            )
        };
        let (owner, bps) = text.split_once('=').ok_or_else(bad)?;
        Ok(Self(RecipientArg {
            owner: Address::from_str(owner).map_err(|_| bad())?.to_bytes(),
            bps: bps.parse().map_err(|_| bad())?,
        }))
    }
}

/// Basis points as a person reads them: `250 bps (2.5 %)`.
pub fn bps(value: u16) -> String {
    let (whole, part) = (value / 100, value % 100);
    let text = format!("{whole}.{part:02}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{value} bps ({text} %)")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations() {
        let read = |text: &str| text.parse::<Seconds>().map(|value| value.0);
        assert_eq!(read("90"), Ok(90));
        assert_eq!(read("15m"), Ok(900));
        assert_eq!(read("1d"), Ok(86_400));
        for text in ["", "d", "1.5d", "-1d", "1y", "0", "99999999999999999999d"] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert_eq!(duration(86_400), "1d");
        assert_eq!(duration(90), "90s");
        assert_eq!(duration(0), "0s");
    }

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(date(1_709_164_800), "2024-02-29 00:00:00 UTC");
        assert_eq!(date(i64::MAX), "never");
    }

    #[test]
    fn scopes_read_back() {
        for text in ["any", "service:11111111111111111111111111111112"] {
            let (kind, key) = text.parse::<ScopeArg>().unwrap().0.to_parts();
            assert_eq!(scope(kind, key), text);
        }
        assert!("service:x".parse::<ScopeArg>().is_err());
        assert!(
            "wallet:11111111111111111111111111111112"
                .parse::<ScopeArg>()
                .is_err()
        );
    }

    #[test]
    fn shares() {
        let share: Share = "11111111111111111111111111111112=2500".parse().unwrap();
        assert_eq!(share.0.bps, 2_500);
        assert_eq!(bps(250), "250 bps (2.5 %)");
        assert_eq!(bps(10_000), "10000 bps (100 %)");
        assert_eq!(bps(0), "0 bps (0 %)");
    }
}
