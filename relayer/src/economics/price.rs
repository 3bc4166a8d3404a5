//! What a token is worth in lamports: prices from the configuration, or from a feed that is asked in the background.
//!
//! Prices are whole numbers of [`Price::UNIT`]s, so that no payment is judged by a rounding error of a floating point
//! unit. A price that nobody has confirmed for too long is not known.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use sluice_sdk::Address;

use crate::config::SecretUrl;

/// The mint by which a feed names SOL: the one of wrapped SOL.
pub const SOL: &str = "So11111111111111111111111111111111111111112";

/// Decimals of SOL.
const SOL_DECIMALS: u32 = 9;
/// Bytes of a feed's answer, at most.
const MAX_ANSWER: usize = 256 * 1024;
/// How long a feed may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// USD for one whole token, in units of 10⁻¹² USD. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price(u64);

/// Why a text is no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a decimal number above 0 and at most 18446744, with at most 12 decimals")]
pub struct PriceError;

impl Price {
    /// Decimals of a price.
    pub const DECIMALS: u32 = 12;
    /// Units in one USD.
    pub const UNIT: u64 = 10u64.pow(Self::DECIMALS);

    /// A price of so many units; `None` for 0, which is no price.
    pub fn of_units(units: u64) -> Option<Self> {
        (units > 0).then_some(Self(units))
    }

    /// Reads `12`, `12.5` or `0.000001`: exactly what it says, or an error.
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        match Self::read(text)? {
            (price, true) => Ok(price),
            (_, false) => Err(PriceError),
        }
    }

    /// The same, with decimals beyond the twelfth left out: feeds give more than anybody knows.
    pub fn parse_rounding_down(text: &str) -> Result<Self, PriceError> {
        Self::read(text).map(|(price, _)| price)
    }

    /// The price, and whether it is exact.
    fn read(text: &str) -> Result<(Self, bool), PriceError> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) || text.ends_with('.') {
            return Err(PriceError);
        }
        let most = Self::DECIMALS as usize;
        let (kept, rest) = decimals.split_at(decimals.len().min(most));
        let whole: u64 = whole.parse().map_err(|_| PriceError)?;
        let decimals: u64 = format!("{kept:0<most$}").parse().map_err(|_| PriceError)?;
        let units = whole
            .checked_mul(Self::UNIT)
            .and_then(|units| units.checked_add(decimals))
            .ok_or(PriceError)?;
        let exact = rest.bytes().all(|byte| byte == b'0');
        Ok((Self::of_units(units).ok_or(PriceError)?, exact))
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:012}", self.0 % Self::UNIT);
        let decimals = decimals.trim_end_matches('0');
        write!(f, "{}", self.0 / Self::UNIT)?;
        if decimals.is_empty() {
            Ok(())
        } else {
            write!(f, ".{decimals}")
        }
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Price;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a price in USD, as a decimal in quotes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Price, E> {
                Price::parse(text)
                    .map_err(|error| E::custom(format!("{text:?} is no price in USD: {error}")))
            }
            // What an environment variable holds is a number before it gets here. A float prints as the shortest
            // decimal that means it, which is the one that was typed.
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Price, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Price, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Price, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// Prices by mint, as a table of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenPrices(pub BTreeMap<Address, Price>);

impl<'de> Deserialize<'de> for TokenPrices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = BTreeMap::<String, Price>::deserialize(deserializer)?;
        let mut prices = BTreeMap::new();
        for (mint, price) in table {
            let address = mint
                .parse()
                .map_err(|_| de::Error::custom(format!("{mint:?} is not the address of a mint")))?;
            prices.insert(address, price);
        }
        Ok(Self(prices))
    }
}

/// What `atomic` units of a token with so many decimals are worth, in lamports, rounded down.
pub fn lamports(atomic: u64, decimals: u8, token: Price, sol: Price) -> u64 {
    // atomic / 10^decimals · token / sol · 10^9, with one division, at the end.
    let value = u128::from(atomic) * u128::from(token.0);
    let decimals = u32::from(decimals);
    let ten = |power: u32| 10u128.checked_pow(power);
    let worth = match SOL_DECIMALS.checked_sub(decimals) {
        Some(more) => {
            let (scale, sol) = (ten(more).unwrap_or(1), u128::from(sol.0));
            match value.checked_mul(scale) {
                Some(value) => value / sol,
                // 2^128 or more, divided by less than 2^64.
                None => u128::from(u64::MAX),
            }
        }
        None => {
            let divisor =
                ten(decimals - SOL_DECIMALS).and_then(|ten| ten.checked_mul(sol.0.into()));
            // A divisor beyond 128 bits is above every value.
            divisor.map_or(0, |divisor| value / divisor)
        }
    };
    u64::try_from(worth).unwrap_or(u64::MAX)
}

/// The prices that a feed told, and when.
#[derive(Debug)]
struct Told {
    prices: HashMap<Address, Price>,
    sol: Option<Price>,
    at: Instant,
}

/// Every price that is known. What the configuration says holds for good; a feed fills in the rest.
#[derive(Debug)]
pub struct Prices {
    sol: Option<Price>,
    tokens: TokenPrices,
    max_age: Duration,
    told: RwLock<Option<Told>>,
}

impl Prices {
    /// The prices of a configuration, with room for those of a feed, which are believed for `max_age`.
    pub fn new(sol: Option<Price>, tokens: TokenPrices, max_age: Duration) -> Self {
        Self {
            sol,
            tokens,
            max_age,
            told: RwLock::default(),
        }
    }

    /// What `atomic` units of a mint are worth in lamports, rounded down; `None` while the mint's price or SOL's is not
    /// known.
    pub fn worth(&self, mint: &Address, decimals: u8, atomic: u64) -> Option<u64> {
        self.worth_at(mint, decimals, atomic, Instant::now())
    }

    fn worth_at(&self, mint: &Address, decimals: u8, atomic: u64, now: Instant) -> Option<u64> {
        let fixed = self.tokens.0.get(mint).copied();
        let (token, sol) = match (fixed, self.sol) {
            (Some(token), Some(sol)) => (token, sol),
            (token, sol) => {
                let told = self.told.read().unwrap_or_else(PoisonError::into_inner);
                let told = told
                    .as_ref()
                    .filter(|told| now.saturating_duration_since(told.at) <= self.max_age)?;
                (
                    token.or_else(|| told.prices.get(mint).copied())?,
                    sol.or(told.sol)?,
                )
            }
        };
        Some(lamports(atomic, decimals, token, sol))
    }

    /// Takes what a feed said at `at`. What it said before is forgotten: a price that it no longer gives is not known.
    fn tell(&self, answer: &Answer, at: Instant) {
        *self.told.write().unwrap_or_else(PoisonError::into_inner) = Some(Told {
            prices: answer.prices.clone(),
            sol: answer.sol,
            at,
        });
    }
}

/// What a feed answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Answer {
    prices: HashMap<Address, Price>,
    sol: Option<Price>,
}

impl Answer {
    /// Reads `{mint: price}`, where a price is a number, a decimal in quotes, or an object whose `usdPrice` or `price`
    /// is one; the whole may stand in `data`. Entries that are no prices are left out.
    fn read(body: &[u8]) -> Result<Self, String> {
        let json: Value =
            serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
        let table = json.get("data").unwrap_or(&json);
        let table = table
            .as_object()
            .ok_or("no object that maps mints to prices in USD")?;
        let mut answer = Self::default();
        for (mint, value) in table {
            let value = ["usdPrice", "price"]
                .iter()
                .find_map(|field| value.get(field))
                .unwrap_or(value);
            let (Ok(mint_address), Some(price)) = (mint.parse(), price(value)) else {
                continue;
            };
            if mint == SOL {
                answer.sol = Some(price);
            }
            answer.prices.insert(mint_address, price);
        }
        if answer.prices.is_empty() {
            return Err("not one price in it: expected {mint: USD}".to_owned());
        }
        Ok(answer)
    }
}

fn price(value: &Value) -> Option<Price> {
    let text = match value {
        Value::String(text) => text.clone(),
        // 1e-7 as 0.0000001.
        Value::Number(number) => match number.as_u64() {
            Some(number) => number.to_string(),
            None => number.as_f64()?.to_string(),
        },
        _ => return None,
    };
    Price::parse_rounding_down(&text).ok()
}

/// A feed of prices.
///
/// The address is the operator's, and what it answers is a stranger's: no redirect is followed, so that an answer cannot
/// send the relayer anywhere else; it is cut at [`MAX_ANSWER`] bytes and waited for [`PATIENCE`]; and of it nothing but
/// prices is kept or shown.
pub struct Feed {
    url: SecretUrl,
    client: reqwest::Client,
}

impl Feed {
    /// A feed at a URL.
    pub fn new(url: SecretUrl) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .user_agent(concat!("sluice-relayer/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.without_url().to_string())?;
        Ok(Self { url, client })
    }

    /// Asks once. What was known stays known, and ages, if there is no good answer.
    pub async fn refresh(&self, prices: &Prices) {
        let asked = Instant::now();
        match self.ask().await {
            Ok(answer) => {
                tracing::debug!(feed = %self.url, prices = answer.prices.len(), "prices");
                prices.tell(&answer, asked);
            }
            Err(problem) => {
                tracing::warn!(feed = %self.url, %problem, "no prices from the feed");
            }
        }
    }

    async fn ask(&self) -> Result<Answer, String> {
        // The address may carry a key: it is in no message.
        let shown = |error: reqwest::Error| error.without_url().to_string();
        let request = self.client.get(self.url.expose());
        let mut response = request.send().await.map_err(shown)?;
        if !response.status().is_success() {
            return Err(format!("it answered {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(shown)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(format!("its answer has more than {MAX_ANSWER} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Answer::read(&body)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd(text: &str) -> Price {
        Price::parse(text).unwrap()
    }

    #[test]
    fn decimals_are_read_exactly_or_refused() {
        assert_eq!(usd("1"), Price(Price::UNIT));
        assert_eq!(usd("150.25"), Price(150_250_000_000_000));
        assert_eq!(usd("0.000000000001"), Price(1));
        assert_eq!(usd("18446744.0737"), Price(18_446_744_073_700_000_000));
        assert_eq!(usd("1.0000000000000"), Price(Price::UNIT));
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "0",
            "0.0",
            "-1",
            "+1",
            "1e3",
            " 1",
            "1,5",
            "NaN",
            "inf",
            "0.0000000000001",
            "18446745",
            "99999999999999999999999",
            "1.2.3",
            "١",
        ] {
            assert_eq!(Price::parse(bad), Err(PriceError), "{bad:?}");
        }
        assert_eq!(
            Price::parse_rounding_down("0.9999999999999"),
            Ok(Price(999_999_999_999))
        );
        assert_eq!(
            Price::parse_rounding_down("0.0000000000009"),
            Err(PriceError)
        );
    }

    #[test]
    fn a_fee_share_in_lamports() {
        // 200 units of USDC are $0.0002; at $200 a SOL that is a millionth of one.
        assert_eq!(lamports(200, 6, usd("1"), usd("200")), 1_000);
        assert_eq!(lamports(199, 6, usd("1"), usd("200")), 995);
        assert_eq!(lamports(1, 6, usd("1"), usd("3000")), 0);
        assert_eq!(lamports(1, 9, usd("200"), usd("200")), 1);
        assert_eq!(lamports(1_000, 12, usd("200"), usd("200")), 1);
        assert_eq!(lamports(999, 12, usd("200"), usd("200")), 0);
        assert_eq!(lamports(u64::MAX, 0, Price(u64::MAX), Price(1)), u64::MAX);
        assert_eq!(lamports(u64::MAX, 255, Price(u64::MAX), Price(1)), 0);
    }

    fn mint(seed: u8) -> Address {
        Address::new_from_array([seed; 32])
    }

    #[test]
    fn what_a_feed_says_grows_old_and_what_the_configuration_says_does_not() {
        let hour = Duration::from_secs(3_600);
        let fixed = TokenPrices(BTreeMap::from([(mint(1), usd("1"))]));
        let prices = Prices::new(None, fixed, hour);
        let now = Instant::now();
        assert_eq!(prices.worth_at(&mint(1), 6, 100, now), None);
        let answer = Answer {
            prices: HashMap::from([(mint(1), usd("5")), (mint(2), usd("2"))]),
            sol: Some(usd("100")),
        };
        prices.tell(&answer, now);
        assert_eq!(prices.worth_at(&mint(1), 6, 100, now), Some(1_000));
        assert_eq!(prices.worth_at(&mint(2), 6, 100, now + hour), Some(2_000));
        assert_eq!(prices.worth_at(&mint(3), 6, 100, now), None);
        let late = now + hour + Duration::from_millis(1);
        assert_eq!(prices.worth_at(&mint(2), 6, 100, late), None);
        assert_eq!(prices.worth_at(&mint(1), 6, 100, late), None);
        // Told again without one of them.
        let answer = Answer {
            prices: HashMap::from([(mint(3), usd("2"))]),
            sol: Some(usd("100")),
        };
        prices.tell(&answer, late);
        assert_eq!(prices.worth_at(&mint(3), 6, 100, late), Some(2_000));
        assert_eq!(prices.worth_at(&mint(2), 6, 100, late), None);
    }

    #[test]
    fn feeds_speak_in_several_ways() {
        let told = format!(
            r#"{{"{SOL}": {{"usdPrice": 147.4789340738336, "blockId": 1}}, "{}": "1.0001", "{}": 1e-7, "{}": null,
            "x": 1, "{}": -1}}"#,
            mint(1),
            mint(2),
            mint(3),
            mint(4)
        );
        let wrapped = format!(r#"{{"data": {told}, "timeTaken": 0.01}}"#);
        for body in [told, wrapped] {
            let answer = Answer::read(body.as_bytes()).unwrap();
            assert_eq!(answer.sol, Some(usd("147.478934073833")));
            assert_eq!(answer.prices.len(), 3);
            assert_eq!(answer.prices[&mint(1)], usd("1.0001"));
            assert_eq!(answer.prices[&mint(2)], usd("0.0000001"));
        }
        for bad in ["", "[]", "{}", "{\"x\": 1}", "3", "{\"data\": []}"] {
            assert!(Answer::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_price_is_read_as_it_is_written(units in 1u64..) {
            let price = Price(units);
            prop_assert_eq!(Price::parse(&price.to_string()), Ok(price));
        }

        #[test]
        fn worth_is_the_quotient_rounded_down(
            atomic in 0u64..1 << 40, token in 1u64..1 << 50, sol in 1u64.., decimals in 0u8..12,
        ) {
            let worth = lamports(atomic, decimals, Price(token), Price(sol));
            prop_assume!(worth < u64::MAX);
            // 2^90 · 10^9 and 2^64 · 10^12 fit 128 bits.
            let value = u128::from(atomic) * u128::from(token) * 10u128.pow(9);
            let unit = 10u128.pow(decimals.into()) * u128::from(sol);
            let worth = u128::from(worth);
            prop_assert!(worth.checked_mul(unit).is_some_and(|least| least <= value));
            prop_assert!((worth + 1).checked_mul(unit).is_none_or(|more| more > value));
        }

        #[test]
        fn more_is_never_worth_less(
            atomic: u64, more: u64, token in 1u64.., sol in 1u64.., decimals: u8,
        ) {
            let (less, more) = (atomic.min(more), atomic.max(more));
            let worth = |atomic| lamports(atomic, decimals, Price(token), Price(sol));
            prop_assert!(worth(less) <= worth(more));
        }
    }
}
