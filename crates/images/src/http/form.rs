//! Multipart forms (RFC 7578), read as they arrive: what is long is never kept.

use memchr::memmem::Finder;

/// Longest value of the part `metadata`, in bytes.
const MAX_METADATA: usize = 256 * 1024;
/// Most bytes of the headers of a part.
const MAX_HEADERS: usize = 8 * 1024;
/// Most bytes before the first part.
const MAX_PREAMBLE: usize = 64 * 1024;
/// Most parts.
const MAX_PARTS: usize = 32;
/// Longest boundary (RFC 2046, section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// What is wrong with a form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormError {
    #[error("Content-Type: expected `multipart/form-data` with a boundary of 1 to {MAX_BOUNDARY} characters")]
    NoForm,
    #[error("the form has no part that begins with its boundary within {MAX_PREAMBLE} bytes")]
    NoPart,
    #[error("the form ends in the middle of a part")]
    CutOff,
    #[error("the form has more than {MAX_PARTS} parts")]
    TooManyParts,
    #[error("the headers of a part are longer than {MAX_HEADERS} bytes")]
    Headers,
    #[error("a boundary is followed by neither a line nor the end")]
    Boundary,
    #[error("a part has no `Content-Disposition: form-data; name=…`")]
    Nameless,
    #[error("the part `metadata` is longer than {MAX_METADATA} bytes")]
    Metadata,
    #[error("the part `metadata` is there twice")]
    Twice,
}

/// What is wanted of a form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// Value of the part `metadata`.
    pub(super) metadata: Option<Vec<u8>>,
    /// There was a part `file`, whatever is in it.
    pub(super) file: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preamble,
    /// Right after a boundary.
    Boundary,
    Headers,
    /// In a part; whether it is `metadata`.
    Body {
        metadata: bool,
    },
    Epilogue,
}

/// Reads a form that comes in pieces.
pub(super) struct FormReader {
    /// `\r\n--boundary`.
    delimiter: Finder<'static>,
    buffer: Vec<u8>,
    state: State,
    preamble: usize,
    parts: usize,
    form: Form,
}

impl FormReader {
    /// `content_type` is that of the request.
    pub(super) fn new(content_type: &str) -> Result<Self, FormError> {
        let boundary = boundary(content_type).ok_or(FormError::NoForm)?;
        let delimiter = Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned();
        Ok(Self {
            delimiter,
            // The first boundary is one without a line before it.
            buffer: b"\r\n".to_vec(),
            state: State::Preamble,
            preamble: 0,
            parts: 0,
            form: Form::default(),
        })
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), FormError> {
        if self.state == State::Epilogue {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        while self.step()? {}
        Ok(())
    }

    /// The form, when all has come.
    pub(super) fn finish(self) -> Result<Form, FormError> {
        match self.state {
            State::Epilogue => Ok(self.form),
            State::Preamble => Err(FormError::NoPart),
            _ => Err(FormError::CutOff),
        }
    }

    /// Goes on by one state; `false` if more bytes are needed.
    fn step(&mut self) -> Result<bool, FormError> {
        match self.state {
            State::Preamble | State::Body { .. } => self.content(),
            State::Boundary => self.after_boundary(),
            State::Headers => self.headers(),
            State::Epilogue => {
                self.buffer.clear();
                Ok(false)
            }
        }
    }

    /// Passes what is before the next boundary.
    fn content(&mut self) -> Result<bool, FormError> {
        let length = self.delimiter.needle().len();
        let found = self.delimiter.find(&self.buffer);
        // What could be the beginning of a boundary stays.
        let end = found.unwrap_or_else(|| self.buffer.len().saturating_sub(length - 1));
        let passed = &self.buffer[..end];
        match self.state {
            State::Body { metadata: true } => {
                let value = self.form.metadata.get_or_insert_default();
                if value.len() + passed.len() > MAX_METADATA {
                    return Err(FormError::Metadata);
                }
                value.extend_from_slice(passed);
            }
            State::Preamble => {
                self.preamble += passed.len();
                if self.preamble > MAX_PREAMBLE {
                    return Err(FormError::NoPart);
                }
            }
            _ => {}
        }
        self.buffer.drain(..found.map_or(end, |at| at + length));
        if found.is_some() {
            self.state = State::Boundary;
        }
        Ok(found.is_some())
    }

    /// A line's end begins a part, two dashes end the form.
    fn after_boundary(&mut self) -> Result<bool, FormError> {
        let blank = self.buffer.iter().take_while(|byte| matches!(**byte, b' ' | b'\t')).count();
        if blank > MAX_HEADERS {
            return Err(FormError::Boundary);
        }
        match self.buffer.get(blank..blank + 2) {
            None => Ok(false),
            Some(b"\r\n") => {
                self.parts += 1;
                if self.parts > MAX_PARTS {
                    return Err(FormError::TooManyParts);
                }
                // The line's end stays: it ends headers that are empty.
                self.buffer.drain(..blank);
                self.state = State::Headers;
                Ok(true)
            }
            Some(b"--") if blank == 0 => {
                self.state = State::Epilogue;
                Ok(true)
            }
            Some(_) => Err(FormError::Boundary),
        }
    }

    fn headers(&mut self) -> Result<bool, FormError> {
        let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") else {
            return if self.buffer.len() > MAX_HEADERS + 4 { Err(FormError::Headers) } else { Ok(false) };
        };
        if end > MAX_HEADERS {
            return Err(FormError::Headers);
        }
        let text = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let name = text.split("\r\n").find_map(disposition).ok_or(FormError::Nameless)?;
        let metadata = name == "metadata";
        if metadata && self.form.metadata.is_some() {
            return Err(FormError::Twice);
        }
        if metadata {
            self.form.metadata = Some(Vec::new());
        }
        self.form.file |= name == "file";
        self.buffer.drain(..end + 4);
        self.state = State::Body { metadata };
        Ok(true)
    }
}

/// Name of a part, if the line is its `Content-Disposition`.
fn disposition(line: &str) -> Option<String> {
    let (header, value) = line.split_once(':')?;
    if !header.trim().eq_ignore_ascii_case("content-disposition") {
        return None;
    }
    parameter(value, "form-data", "name")
}

/// Boundary of a form.
fn boundary(content_type: &str) -> Option<String> {
    let boundary = parameter(content_type, "multipart/form-data", "boundary")?;
    let plain = |c: char| c.is_ascii_graphic() || c == ' ';
    let good = (1..=MAX_BOUNDARY).contains(&boundary.len()) && boundary.chars().all(plain);
    (good && !boundary.ends_with(' ')).then_some(boundary)
}

/// Parameter of a header `kind; name=value; name="value"`.
fn parameter(header: &str, kind: &str, name: &str) -> Option<String> {
    let (first, mut rest) = header.split_once(';')?;
    if !first.trim().eq_ignore_ascii_case(kind) {
        return None;
    }
    loop {
        let (key, value) = rest.split_once('=')?;
        let key = key.trim().trim_start_matches(';').trim();
        let value = value.trim_start();
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_once(';').unwrap_or((value, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.trim_end().to_owned());
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=----x";

    fn read(content_type: &str, body: &[u8], piece: usize) -> Result<Form, FormError> {
        let mut reader = FormReader::new(content_type)?;
        for piece in body.chunks(piece.max(1)) {
            reader.push(piece)?;
        }
        reader.finish()
    }

    fn sample() -> Vec<u8> {
        b"------x\r\nContent-Disposition: form-data; name=\"metadata\"\r\nContent-Type: application/json\r\n\r\n{\"a\": 1}\r\n\
          ------x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"i.img\"\r\n\r\nab\r\n------\r\ncd\r\n------x--\r\n"
            .to_vec()
    }

    #[test]
    fn forms_as_curl_writes_them() {
        for piece in [1, 2, 7, 1_000] {
            let form = read(TYPE, &sample(), piece).unwrap();
            assert_eq!(form, Form { metadata: Some(b"{\"a\": 1}".to_vec()), file: true });
        }
        let empty =
            b"preamble\r\n------x\r\ncontent-disposition: form-data; name=metadata\r\n\r\n\r\n------x--";
        let form = Form { metadata: Some(Vec::new()), file: false };
        assert_eq!(read("Multipart/Form-Data; charset=utf-8; boundary=\"----x\"", empty, 5).unwrap(), form);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for wrong in [
            "",
            "application/json",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"é\"",
        ] {
            assert_eq!(read(wrong, b"", 1), Err(FormError::NoForm), "{wrong}");
        }
        let whole = sample();
        assert_eq!(read(TYPE, b"", 1), Err(FormError::NoPart));
        assert_eq!(read(TYPE, &vec![b'a'; 100_000], 900), Err(FormError::NoPart));
        assert_eq!(read(TYPE, &whole[..whole.len() - 5], 3), Err(FormError::CutOff));
        assert_eq!(read(TYPE, b"------x\r\nX: y\r\n\r\n", 3), Err(FormError::Nameless));
        assert_eq!(read(TYPE, b"------xyz", 3), Err(FormError::Boundary));
        let long = [b"------x\r\nX: ".to_vec(), vec![b'a'; 10_000]].concat();
        assert_eq!(read(TYPE, &long, 500), Err(FormError::Headers));
        let large = [&whole[..92], &vec![b'a'; MAX_METADATA + 100]].concat();
        assert_eq!(read(TYPE, &large, 5_000), Err(FormError::Metadata));
        let part = b"------x\r\nContent-Disposition: form-data; name=b\r\n\r\n\r\n".repeat(40);
        assert_eq!(read(TYPE, &part, 500), Err(FormError::TooManyParts));
        let twice = b"------x\r\nContent-Disposition: form-data; name=metadata\r\n\r\n1\r\n".repeat(2);
        assert_eq!(read(TYPE, &twice, 50), Err(FormError::Twice));
    }

    proptest! {
        #[test]
        fn the_way_it_comes_in_does_not_matter(body in drystone_hostile::damaged([sample()]), piece in 1_usize..40) {
            prop_assert_eq!(read(TYPE, &body, piece), read(TYPE, &body, 10_000));
        }

        #[test]
        fn any_type_is_answered(text in drystone_hostile::damaged_text([TYPE])) {
            let _ = read(&text, b"------x", 3);
        }
    }
}
