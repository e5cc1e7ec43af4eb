//! Content of a package goes out: as a whole, in part, its VNFD, its artifacts.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;

use crate::{
    problem::Problem,
    request::{Incoming, accepts},
    service::Nfv,
};

/// Bytes that are read at a time.
const PIECE: usize = 256 * 1024;
const ZIP: &str = "application/zip";
const TEXT: &str = "text/plain";

/// What a header `Range` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    Whole,
    /// From the first to before the second byte; never empty.
    Part(u64, u64),
    Unsatisfiable,
}

/// Reads a header `Range` (RFC 9110, 14.2). Several ranges are answered with everything, as that allows.
fn range(header: Option<&HeaderValue>, total: u64) -> Range {
    let text = header.and_then(|value| value.to_str().ok());
    let Some(text) = text.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Range::Whole };
    if text.contains(',') {
        return Range::Whole;
    }
    let Some((first, last)) = text.split_once('-') else { return Range::Whole };
    let number = |text: &str| {
        let text = text.trim();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (start, end) = match (number(first), number(last)) {
        (None, Some(suffix)) if first.trim().is_empty() => (total.saturating_sub(suffix), total),
        (Some(start), None) if last.trim().is_empty() => (start, total),
        (Some(start), Some(last)) if start <= last => (start, last.saturating_add(1).min(total)),
        _ => return Range::Whole,
    };
    if start < end { Range::Part(start, end) } else { Range::Unsatisfiable }
}

fn unsatisfiable(total: u64) -> Problem {
    let problem =
        Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, format!("header Range: there are {total} bytes"));
    match HeaderValue::from_str(&format!("bytes */{total}")) {
        Ok(value) => problem.with(header::CONTENT_RANGE, value),
        Err(_) => problem,
    }
}

/// The head of a reply with bytes of a whole of `total`.
fn head(mut response: Response<Body>, asked: Range, total: u64, media: &'static str) -> Response<Body> {
    let (start, end) = match asked {
        Range::Part(start, end) => (start, end),
        _ => (0, total),
    };
    if matches!(asked, Range::Part(..)) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        if let Ok(value) = HeaderValue::from_str(&format!("bytes {start}-{}/{total}", end - 1)) {
            response.headers_mut().insert(header::CONTENT_RANGE, value);
        }
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    response
}

/// A reply with bytes that are there already, or the part of them that is asked for.
fn slice(
    bytes: &Bytes,
    header: Option<&HeaderValue>,
    media: &'static str,
) -> Result<Response<Body>, Problem> {
    let total = bytes.len() as u64;
    let asked = range(header, total);
    let part = match asked {
        Range::Unsatisfiable => return Err(unsatisfiable(total)),
        Range::Whole => bytes.clone(),
        Range::Part(start, end) => {
            let place = |at: u64| usize::try_from(at).unwrap_or(bytes.len());
            bytes.slice(place(start)..place(end))
        }
    };
    Ok(head(Response::new(Body::from(part)), asked, total, media))
}

impl Nfv {
    /// GET `vnf_packages/{id}/package_content`.
    pub(crate) async fn read_content(&self, incoming: &Incoming) -> Result<Response<Body>, Problem> {
        let id = incoming.id().to_owned();
        self.onboarded(&id, StatusCode::CONFLICT)?;
        if !accepts(&incoming.parts, ZIP) {
            return Err(Problem::new(
                StatusCode::NOT_ACCEPTABLE,
                format!("header Accept: only {ZIP} is served here"),
            ));
        }
        let total = self.0.content.length(&id).await?;
        let asked = range(incoming.parts.headers.get(header::RANGE), total);
        let (start, end) = match asked {
            Range::Unsatisfiable => return Err(unsatisfiable(total)),
            Range::Whole => (0, total),
            Range::Part(start, end) => (start, end),
        };
        let content = self.0.content.clone();
        let pieces = futures::stream::try_unfold(start, move |at| {
            let (content, id) = (content.clone(), id.clone());
            async move {
                let left = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                if left == 0 {
                    return Ok(None);
                }
                let bytes = content.read(&id, at, left).await?;
                if bytes.is_empty() {
                    return Err(crate::content::ContentError::Failed(format!("it ends after {at} bytes")));
                }
                let next = at + bytes.len() as u64;
                Ok(Some((bytes, next)))
            }
        });
        Ok(head(Response::new(Body::from_stream(pieces)), asked, total, ZIP))
    }

    /// GET `vnf_packages/{id}/vnfd`.
    pub(crate) async fn read_vnfd(&self, incoming: &Incoming) -> Result<Response<Body>, Problem> {
        self.onboarded(incoming.id(), StatusCode::CONFLICT)?;
        let (text, zip) = (accepts(&incoming.parts, TEXT), accepts(&incoming.parts, ZIP));
        if !text && !zip {
            let detail = format!("header Accept: only {TEXT} and {ZIP} are served here");
            return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, detail));
        }
        let vnfd = self.0.content.vnfd(incoming.id()).await?;
        match vnfd.single {
            Some(single) if text => slice(&single, None, TEXT),
            _ if zip => slice(&vnfd.archive, None, ZIP),
            _ => {
                let detail = format!("header Accept: the VNFD has several files; accept {ZIP}");
                Err(Problem::new(StatusCode::NOT_ACCEPTABLE, detail))
            }
        }
    }

    /// GET `vnf_packages/{id}/artifacts/{path}`.
    pub(crate) async fn read_artifact(&self, incoming: &Incoming) -> Result<Response<Body>, Problem> {
        self.onboarded(incoming.id(), StatusCode::CONFLICT)?;
        let path = incoming.ids.get(1).map_or("", String::as_str);
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Problem::not_found("artifact", path));
        }
        let bytes = self.0.content.artifact(incoming.id(), path).await?;
        slice(&bytes, incoming.parts.headers.get(header::RANGE), "application/octet-stream")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let asked = |text: &'static str| range(Some(&HeaderValue::from_static(text)), 10);
        assert_eq!(asked("bytes=0-3"), Range::Part(0, 4));
        assert_eq!(asked("bytes=8-"), Range::Part(8, 10));
        assert_eq!(asked("bytes=-3"), Range::Part(7, 10));
        assert_eq!(asked("bytes=5-99999999999999999999999"), Range::Part(5, 10));
        assert_eq!(asked("bytes=10-"), Range::Unsatisfiable);
        assert_eq!(asked("bytes=-0"), Range::Unsatisfiable);
        for whole in ["lines=1-2", "bytes=3-1", "bytes=a-b", "bytes=-", "bytes=0-1,3-4"] {
            assert_eq!(asked(whole), Range::Whole, "{whole}");
        }
        assert_eq!(range(None, 10), Range::Whole);
    }
}
