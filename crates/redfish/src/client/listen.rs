//! Listening to a service's stream of events (DSP0266, "Server-Sent Events"): one connection that stays open.

use std::time::Duration;

use bytes::BytesMut;
use futures::{Stream, StreamExt as _};
use http::{StatusCode, header};

use super::{Client, error::RedfishError, transport::Transport};
use crate::types::Event;

/// A stream that is silent for so long is dead: services send something every few seconds, if only a comment.
const SILENCE: Duration = Duration::from_secs(90);

/// Largest event, in bytes (DSP0266 allows 1 MiB).
const LARGEST: usize = 2 << 20;

impl Client {
    /// Opens the stream at a service's `ServerSentEventUri`. It ends with an error, or when the service ends it; whoever
    /// listens opens another, and reads again what may have changed meanwhile.
    ///
    /// # Errors
    /// See [`RedfishError`].
    pub async fn listen(
        &self,
        uri: &str,
    ) -> Result<impl Stream<Item = Result<Event, RedfishError>> + Send + use<>, RedfishError> {
        let response = self.transport.open(uri).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(RedfishError::Status {
                uri: uri.to_owned(),
                code: status.as_u16(),
                messages: Vec::new(),
            });
        }
        let uri = uri.to_owned();
        let chunks = Box::pin(response.bytes_stream());
        let state = (chunks, Parser::default(), uri);
        Ok(futures::stream::try_unfold(state, |(mut chunks, mut parser, uri)| async move {
            loop {
                if let Some(event) = parser.next(&uri)? {
                    return Ok(Some((event, (chunks, parser, uri))));
                }
                let silent = || RedfishError::Timeout { uri: uri.clone(), after: SILENCE };
                let chunk = tokio::time::timeout(SILENCE, chunks.next()).await.map_err(|_| silent())?;
                match chunk {
                    None => return Ok(None),
                    Some(Ok(chunk)) => parser.take(&uri, &chunk)?,
                    Some(Err(error)) => {
                        return Err(RedfishError::Unreachable { uri, reason: error.to_string() });
                    }
                }
            }
        }))
    }
}

impl Transport {
    /// Sends a GET whose answer has no end. Logs in again once.
    async fn open(&self, uri: &str) -> Result<reqwest::Response, RedfishError> {
        let mut logged_in_again = false;
        loop {
            let credentials = self.authentication().headers(self).await?;
            let request = self.streaming(self.resolve(uri)?).headers(credentials.clone());
            let request = request.header(header::ACCEPT, "text/event-stream").header("odata-version", "4.0");
            let response = request.send().await.map_err(|error| self.sort(uri, &error))?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            if logged_in_again || !self.authentication().refused(&credentials).await {
                return Err(RedfishError::Unauthorized { uri: uri.to_owned() });
            }
            logged_in_again = true;
        }
    }
}

/// Cuts a stream into events.
#[derive(Debug, Default)]
struct Parser {
    buffer: BytesMut,
    data: String,
}

impl Parser {
    fn take(&mut self, uri: &str, chunk: &[u8]) -> Result<(), RedfishError> {
        if self.buffer.len() + self.data.len() + chunk.len() > LARGEST {
            return Err(RedfishError::malformed(uri, format!("an event is larger than {LARGEST} bytes")));
        }
        self.buffer.extend_from_slice(chunk);
        Ok(())
    }

    /// The next event that is complete. What is no event of Redfish's is left out.
    fn next(&mut self, uri: &str) -> Result<Option<Event>, RedfishError> {
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(end + 1);
            let line = std::str::from_utf8(&line).map_err(|error| RedfishError::malformed(uri, error))?;
            let line = line.trim_end_matches(['\r', '\n']);
            if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            } else if line.is_empty() && !self.data.is_empty() {
                let data = std::mem::take(&mut self.data);
                match serde_json::from_str::<Event>(&data) {
                    Ok(event) => return Ok(Some(event)),
                    Err(error) => tracing::debug!(uri, "something that is no event: {error}"),
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = ": hello\n\nid: 1\ndata: {\"Id\": \"1\",\r\ndata: \"Context\": \"c\"}\r\n\r\ndata: 5\n\ndata: {\"Id\": \"2\"}\n\n";

    fn events(pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<String> {
        let mut parser = Parser::default();
        let mut ids = Vec::new();
        for piece in pieces {
            parser.take("/x", &piece).expect("small");
            while let Some(event) = parser.next("/x").expect("text") {
                ids.push(format!("{} {}", event.id, event.context));
            }
        }
        ids
    }

    proptest! {
        /// However the network cuts a stream, the same events come out.
        #[test]
        fn pieces_do_not_matter(size in 1_usize..40) {
            let pieces = STREAM.as_bytes().chunks(size).map(<[u8]>::to_vec);
            prop_assert_eq!(events(pieces), ["1 c", "2 "]);
        }

        /// Nothing that is sent stops the parser otherwise than by an error.
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut parser = Parser::default();
            parser.take("/x", &bytes).expect("small");
            while let Ok(Some(_)) = parser.next("/x") {}
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        parser.take("/x", &vec![b'a'; LARGEST]).expect("just fits");
        assert!(parser.take("/x", b"a").is_err());
    }
}
