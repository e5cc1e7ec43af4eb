//! As much of SPDY/3.1 as a client needs that opens streams and copies them (draft-mbelshe-httpbis-spdy-00, with the flow control
//! that stream servers of runtimes do not practise).
//!
//! Headers are compressed with zlib and a preset dictionary. What goes out uses stored blocks only, for which the dictionary need
//! not be known but for its checksum; the headers of replies say nothing and are not read.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::Decoder;

/// Longest frame that is accepted, in bytes; frames of stream servers have up to 32 KiB.
const MAX_FRAME: usize = 1 << 20;
/// Most that goes out in one frame, in bytes.
const MAX_DATA: usize = 32 << 10;
const FRAME_HEAD: usize = 8;
/// The mark of control frames, and the version.
const CONTROL: u16 = 0x8003;
const FLAG_FIN: u8 = 1;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
/// zlib's head (RFC 1950): deflate, a preset dictionary, and that dictionary's Adler-32 checksum.
const ZLIB_HEAD: [u8; 6] = [0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2];

/// A frame that means something here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// Bytes of a stream, and whether they are the last.
    Data { stream: u32, last: bool, bytes: Bytes },
    /// The stream is closed at once.
    Reset { stream: u32 },
    /// To be sent back.
    Ping { id: u32 },
    /// Anything else.
    Other,
}

/// The other side does not speak SPDY/3.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpdyError {
    /// A frame is too long, or too short for its kind.
    #[error("a SPDY frame of kind {kind} has {length} bytes")]
    Length { kind: u16, length: usize },
    /// It is another version.
    #[error("SPDY version {0} was spoken, not 3")]
    Version(u16),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
}

/// Opens streams, each of a type, and numbers them 1, 3, 5, …
#[derive(Debug, Default)]
pub(super) struct Opener {
    opened: u32,
}

impl Opener {
    /// Writes the frame that opens a stream; returns the stream's number.
    pub(super) fn open(&mut self, kind: &str, output: &mut BytesMut) -> u32 {
        let stream = 2 * self.opened + 1;
        let mut block = BytesMut::new();
        if self.opened == 0 {
            block.put_slice(&ZLIB_HEAD);
        }
        self.opened += 1;
        let mut headers = BytesMut::new();
        headers.put_u32(1);
        for text in ["streamtype", kind] {
            put_length(text.len(), &mut headers);
            headers.put_slice(text.as_bytes());
        }
        stored(&headers, &mut block);
        // An empty block makes the receiver give out what it has.
        stored(&[], &mut block);
        control(SYN_STREAM, 10 + block.len(), output);
        output.put_u32(stream);
        // No associated stream; highest priority, no credential slot.
        output.put_u32(0);
        output.put_u16(0);
        output.put_slice(&block);
        stream
    }
}

/// A stored block of deflate (RFC 1951, 3.2.4). Callers keep it short.
fn stored(bytes: &[u8], output: &mut BytesMut) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    output.put_u8(0);
    output.put_u16_le(length);
    output.put_u16_le(!length);
    output.put_slice(&bytes[..usize::from(length)]);
}

fn put_length(length: usize, output: &mut BytesMut) {
    output.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

fn control(kind: u16, length: usize, output: &mut BytesMut) {
    output.put_u16(CONTROL);
    output.put_u16(kind);
    // Flags, of which there are none, and 24 bits of length.
    put_length(length, output);
}

/// Writes bytes of a stream; `last` closes it on our side.
pub(super) fn data(stream: u32, last: bool, mut bytes: &[u8], output: &mut BytesMut) {
    loop {
        let (piece, rest) = bytes.split_at(bytes.len().min(MAX_DATA));
        output.put_u32(stream);
        let ends = last && rest.is_empty();
        put_length(usize::from(if ends { FLAG_FIN } else { 0 }) << 24 | piece.len(), output);
        output.put_slice(piece);
        bytes = rest;
        if bytes.is_empty() {
            return;
        }
    }
}

/// Writes a ping.
pub(super) fn ping(id: u32, output: &mut BytesMut) {
    control(PING, 4, output);
    output.put_u32(id);
}

/// Reads frames.
#[derive(Debug, Default)]
pub(super) struct Frames;

impl Decoder for Frames {
    type Item = Frame;
    type Error = SpdyError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        let Some((head, _)) = input.split_first_chunk::<FRAME_HEAD>() else { return Ok(None) };
        let [a, b, c, d, flags, lengths @ ..] = *head;
        let length = lengths.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let is_control = a & 0x80 != 0;
        let kind = if is_control { u16::from_be_bytes([c, d]) } else { 0 };
        if length > MAX_FRAME {
            return Err(SpdyError::Length { kind, length });
        }
        if input.len() < FRAME_HEAD + length {
            input.reserve(FRAME_HEAD + length - input.len());
            return Ok(None);
        }
        input.advance(FRAME_HEAD);
        let mut bytes = input.split_to(length).freeze();
        if !is_control {
            let stream = u32::from_be_bytes([a, b, c, d]);
            return Ok(Some(Frame::Data { stream, last: flags & FLAG_FIN != 0, bytes }));
        }
        let version = u16::from_be_bytes([a & 0x7f, b]);
        if version != 3 {
            return Err(SpdyError::Version(version));
        }
        let number = |bytes: &mut Bytes| bytes.try_get_u32().map_err(|_| SpdyError::Length { kind, length });
        Ok(Some(match kind {
            SYN_REPLY if flags & FLAG_FIN != 0 => {
                Frame::Data { stream: number(&mut bytes)? & 0x7fff_ffff, last: true, bytes: Bytes::new() }
            }
            RST_STREAM => Frame::Reset { stream: number(&mut bytes)? & 0x7fff_ffff },
            PING => Frame::Ping { id: number(&mut bytes)? },
            _ => Frame::Other,
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stream_is_opened_as_written_down() {
        let mut output = BytesMut::new();
        let mut opener = Opener::default();
        assert_eq!(opener.open("error", &mut output), 1);
        let first = output.split();
        assert_eq!(&first[..8], [0x80, 3, 0, 1, 0, 0, 0, 53]);
        assert_eq!(first.len(), 8 + 53);
        assert_eq!(&first[8..18], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&first[18..24], ZLIB_HEAD);
        assert_eq!(&first[24..33], [0, 27, 0, 228, 255, 0, 0, 0, 1]);
        assert_eq!(&first[33..56], b"\0\0\0\x0astreamtype\0\0\0\x05error");
        assert_eq!(&first[56..], [0, 0, 0, 255, 255]);
        assert_eq!(opener.open("stdin", &mut output), 3);
        // zlib's head is that of the whole connection.
        assert_eq!(output.len(), 8 + 47);
    }

    #[test]
    fn control_frames_are_read() {
        let mut input = BytesMut::new();
        ping(7, &mut input);
        input.extend_from_slice(&[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 1]);
        input.extend_from_slice(&[0x80, 3, 0, 2, 1, 0, 0, 5, 0, 0, 0, 9, 0]);
        input.extend_from_slice(&[0x80, 3, 0, 7, 0, 0, 0, 0]);
        let mut next = || Frames.decode(&mut input).unwrap();
        assert_eq!(next(), Some(Frame::Ping { id: 7 }));
        assert_eq!(next(), Some(Frame::Reset { stream: 5 }));
        assert_eq!(next(), Some(Frame::Data { stream: 9, last: true, bytes: Bytes::new() }));
        assert_eq!(next(), Some(Frame::Other));
        assert_eq!(next(), None);
        let mut short = BytesMut::from(&[0x80, 3, 0, 6, 0, 0, 0, 1, 0][..]);
        assert!(matches!(Frames.decode(&mut short), Err(SpdyError::Length { .. })));
        let mut old = BytesMut::from(&[0x80, 2, 0, 6, 0, 0, 0, 0][..]);
        assert!(matches!(Frames.decode(&mut old), Err(SpdyError::Version(2))));
    }

    proptest! {
        #[test]
        fn data_arrives_as_it_was_sent(bytes in prop::collection::vec(any::<u8>(), 0..100_000), cut in 1usize..5000, last: bool) {
            let mut sent = BytesMut::new();
            data(5, last, &bytes, &mut sent);
            let (mut input, mut arrived, mut ended) = (BytesMut::new(), Vec::new(), false);
            for piece in sent.chunks(cut) {
                input.extend_from_slice(piece);
                while let Some(frame) = Frames.decode(&mut input).unwrap() {
                    let Frame::Data { stream: 5, last, bytes } = frame else { panic!("{frame:?}") };
                    prop_assert!(!ended);
                    ended = last;
                    arrived.extend_from_slice(&bytes);
                }
            }
            prop_assert_eq!(ended, last);
            prop_assert_eq!(arrived, bytes);
        }

        #[test]
        fn arbitrary_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Frames.decode(&mut input) {}
        }
    }
}
