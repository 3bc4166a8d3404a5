use std::error::Error;

/// Why a response's body could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the answer broke off: {0}")]
    Broken(String),
}

/// Reads a body of at most `cap` bytes. The length that the other side announces is not trusted.
pub(crate) async fn read(
    mut response: reqwest::Response,
    cap: usize,
) -> Result<Vec<u8>, ReadError> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len().saturating_add(chunk.len()) > cap => {
                return Err(ReadError::TooLarge(cap));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(ReadError::Broken(reasons(&error.without_url()))),
        }
    }
}

/// An error with everything that caused it: the outer text alone says only "error sending request".
pub(crate) fn reasons(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
