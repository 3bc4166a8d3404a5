use sha2::{Digest as _, Sha256};
use sluice_intent::{Resource, resource};

/// The resource tag of one HTTP request, which ties a payment to it.
///
/// `method` is in capitals. `url` is absolute and as it goes over the wire: escaped, with its query, without
/// fragment and without credentials. Client and server hash the same text, so neither may normalise it
/// further: a server that did would take a payment for `/b` at `/a/../b`.
///
/// ```
/// use sluice_client::request_tag;
///
/// let a = request_tag("GET", "https://api.example.com/a", b"");
/// assert_ne!(a, request_tag("GET", "https://api.example.com/b", b""));
/// assert_ne!(a, request_tag("GET", "https://api.example.com/a", b"body"));
/// ```
pub fn request_tag(method: &str, url: &str, body: &[u8]) -> Resource {
    resource::of_request(method, url, &Sha256::digest(body).into())
}
