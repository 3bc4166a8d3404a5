//! API keys: who may ask at all, and by what name.
//!
//! Only digests of the keys are kept. A key that is shown is hashed and compared with every one of them, so that the
//! time it takes tells neither how much of it is right nor which one it is.

use std::{fmt, path::PathBuf, sync::Arc};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::{
    GuardError, Limit, Limited,
    rates::Bucket,
    settings::{ApiKeySettings, Rate},
};

/// A key that is shorter can be guessed.
const MIN_LEN: usize = 16;

/// Where a secret is: never in the configuration itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretSource {
    /// A file that holds it.
    pub file: Option<PathBuf>,
    /// The name of an environment variable that holds it.
    pub env: Option<String>,
}

impl SecretSource {
    pub(super) fn is_one(&self) -> bool {
        self.file.is_some() != self.env.is_some()
    }

    /// Reads it, without the blanks around it. `what` names it in an error, which holds none of it.
    pub(super) fn read(&self, what: &str) -> Result<SecretString, GuardError> {
        let fail = |problem: String| GuardError(format!("{what}: {problem}"));
        let text = match (&self.file, &self.env) {
            (Some(path), None) => std::fs::read_to_string(path)
                .map_err(|error| fail(format!("{} cannot be read: {error}", path.display())))?,
            (None, Some(variable)) => std::env::var(variable)
                .map_err(|_| fail(format!("the environment variable {variable} is not set")))?,
            _ => return Err(fail("needs exactly one of `file` and `env`".to_owned())),
        };
        Ok(SecretString::from(text.trim()))
    }
}

/// One of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(u32);

struct ApiKey {
    name: Arc<str>,
    digest: [u8; 32],
    bucket: Option<Bucket>,
}

/// The keys that are let in.
#[derive(Default)]
pub struct ApiKeys(Vec<ApiKey>);

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// No key was shown.
    Nameless,
    /// Nobody knows the key.
    Unknown,
}

impl ApiKeys {
    /// Reads the keys; those without a rate of their own get `rate`.
    pub(super) fn load(settings: &[ApiKeySettings], rate: Rate) -> Result<Self, GuardError> {
        let mut keys: Vec<ApiKey> = Vec::with_capacity(settings.len());
        for key in settings {
            let what = format!("guard.api_keys: {:?}", key.name);
            let secret = key.source().read(&what)?;
            let secret = secret.expose_secret();
            if secret.len() < MIN_LEN || secret.chars().any(char::is_whitespace) {
                return Err(GuardError(format!(
                    "{what}: a key must have {MIN_LEN} characters or more, and no blanks"
                )));
            }
            let digest = digest(secret);
            if let Some(other) = keys.iter().find(|other| other.digest == digest) {
                return Err(GuardError(format!(
                    "{what}: it is the same key as {:?}",
                    other.name
                )));
            }
            keys.push(ApiKey {
                name: Arc::from(key.name.as_str()),
                digest,
                bucket: Bucket::new(key.rate.unwrap_or(rate)),
            });
        }
        Ok(Self(keys))
    }

    /// Who asks: `None` where nobody needs a key.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Option<KeyId>, Stranger> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let shown = digest(shown(headers).ok_or(Stranger::Nameless)?);
        // All of them, without a branch on what was found.
        let mut found = u32::MAX;
        for (place, key) in (0u32..).zip(&self.0) {
            found.conditional_assign(&place, key.digest.ct_eq(&shown));
        }
        match found {
            u32::MAX => Err(Stranger::Unknown),
            place => Ok(Some(KeyId(place))),
        }
    }

    /// What a key is called.
    pub fn name(&self, key: KeyId) -> Option<Arc<str>> {
        self.get(key).map(|key| Arc::clone(&key.name))
    }

    /// Counts a request of a key.
    pub fn count(&self, key: KeyId) -> Result<(), Limited> {
        match self.get(key).and_then(|key| key.bucket.as_ref()) {
            Some(bucket) => bucket
                .take()
                .map_err(|wait| Limited::new(Limit::ApiKeyRate, wait)),
            None => Ok(()),
        }
    }

    fn get(&self, key: KeyId) -> Option<&ApiKey> {
        self.0.get(usize::try_from(key.0).ok()?)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|key| &key.name))
            .finish()
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The key of a request: `Authorization: Bearer`, or `X-API-Key`.
fn shown(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    });
    bearer.or_else(|| headers.get("x-api-key")?.to_str().ok().map(str::trim))
}
