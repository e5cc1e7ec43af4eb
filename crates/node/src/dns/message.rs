//! Questions and answers in wire format (RFC 1035, RFC 6891). Pure, and safe for whatever bytes come.

use hickory_proto::{
    op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, Record, RecordType},
    serialize::binary::{BinDecodable, BinDecoder},
};

use super::zone::{Answer, Zone, alias};

/// The largest datagram that is sent: it passes every network unfragmented (DNS flag day 2020).
const MAX_DATAGRAM: u16 = 1232;
/// What a client without EDNS takes (RFC 1035).
const PLAIN_DATAGRAM: u16 = 512;
/// The largest message over TCP.
const MAX_STREAM: u16 = u16::MAX;
/// How many aliases are followed.
pub(super) const MAX_ALIASES: usize = 8;
/// Length of the header, in bytes.
const HEADER: usize = 12;

/// A record whose name is a reference and that has no data, in bytes.
const SMALLEST_RECORD: usize = 12;

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// With its length before it, in a stream.
    Tcp,
}

/// What to do about a packet.
#[derive(Debug)]
pub enum Step {
    /// Nothing: it is not a question.
    Ignore,
    /// Send this.
    Reply(Vec<u8>),
    /// Ask a name server of the node, with the client's own packet.
    Forward(Asked),
    /// The answer so far leads to a name outside the cluster: ask for that, and add what comes.
    Follow(Box<Draft>, Name),
}

/// A question that is well formed.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its header.
    metadata: Metadata,
    /// The question itself.
    pub query: Query,
    /// Whether the client speaks EDNS.
    has_edns: bool,
    /// The largest answer that it takes, in bytes.
    limit: u16,
}

/// An answer that is being made.
#[derive(Debug, Clone)]
pub struct Draft {
    asked: Asked,
    message: Message,
}

/// The first step for a packet.
pub fn first_step(packet: &[u8], zone: &Zone, transport: Transport) -> Step {
    let asked = match read(packet, transport) {
        Ok(asked) => asked,
        Err(step) => return step,
    };
    let draft = Draft::new(asked);
    let Asked { query, .. } = &draft.asked;
    if query.query_class() != DNSClass::IN {
        return draft.fail(ResponseCode::Refused);
    }
    match zone.answer(query.name(), query.query_type()) {
        Answer::Elsewhere => Step::Forward(draft.asked),
        answer => draft.fill(answer, zone),
    }
}

/// Checks a packet. An answer is never answered: two servers could go on for ever.
fn read(packet: &[u8], transport: Transport) -> Result<Asked, Step> {
    let mut decoder = BinDecoder::new(packet);
    let Ok(header) = Header::read(&mut decoder) else { return Err(Step::Ignore) };
    if header.metadata.message_type != MessageType::Query {
        return Err(Step::Ignore);
    }
    let refuse = |code| Err(error(&header.metadata, code));
    if header.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    let Ok(message) = Message::from_vec(packet) else { return refuse(ResponseCode::FormErr) };
    let [query] = message.queries.as_slice() else { return refuse(ResponseCode::FormErr) };
    if message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        let mut draft = Draft::new(asked(&header.metadata, query, message.edns.as_ref(), transport));
        draft.message.metadata.response_code = ResponseCode::BADVERS;
        return Err(Step::Reply(draft.encode()));
    }
    Ok(asked(&header.metadata, query, message.edns.as_ref(), transport))
}

fn asked(metadata: &Metadata, query: &Query, edns: Option<&Edns>, transport: Transport) -> Asked {
    let limit = match (transport, edns) {
        (Transport::Tcp, _) => MAX_STREAM,
        (Transport::Udp, None) => PLAIN_DATAGRAM,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_DATAGRAM, MAX_DATAGRAM),
    };
    Asked { metadata: *metadata, query: query.clone(), has_edns: edns.is_some(), limit }
}

/// An error without the question, for those whose question cannot be read.
fn error(metadata: &Metadata, code: ResponseCode) -> Step {
    let mut message = Message::error_msg(metadata.id, metadata.op_code, code);
    message.metadata.recursion_desired = metadata.recursion_desired;
    message.to_vec().map_or(Step::Ignore, Step::Reply)
}

impl Asked {
    /// The answer that something went wrong here or upstream.
    pub fn failure(self) -> Vec<u8> {
        let mut draft = Draft::new(self);
        draft.message.metadata.response_code = ResponseCode::ServFail;
        draft.encode()
    }
}

impl Draft {
    fn new(asked: Asked) -> Self {
        let mut message = Message::response(asked.metadata.id, OpCode::Query);
        message.metadata = Metadata::response_from_request(&asked.metadata);
        message.metadata.recursion_available = true;
        message.add_query(asked.query.clone());
        if asked.has_edns {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_DATAGRAM);
            message.set_edns(edns);
        }
        Self { asked, message }
    }

    /// The type that is asked for.
    pub fn query_type(&self) -> RecordType {
        self.asked.query.query_type()
    }

    fn fail(mut self, code: ResponseCode) -> Step {
        self.message.metadata.response_code = code;
        Step::Reply(self.encode())
    }

    /// Writes down what the zone says; aliases inside the cluster are followed at once.
    fn fill(mut self, mut answer: Answer, zone: &Zone) -> Step {
        self.message.metadata.authoritative = true;
        let mut name = self.asked.query.name().clone();
        for _ in 0..MAX_ALIASES {
            let target = match answer {
                Answer::Alias(target) => target,
                last => return self.finish(last, zone),
            };
            self.message.add_answer(alias(name, &target));
            match zone.answer(&target, self.query_type()) {
                Answer::Elsewhere => return Step::Follow(Box::new(self), target),
                next => answer = next,
            }
            name = target;
        }
        self.fail(ResponseCode::ServFail)
    }

    fn finish(mut self, answer: Answer, zone: &Zone) -> Step {
        match answer {
            Answer::Records { answers, additionals } => {
                self.message.add_answers(answers);
                self.message.add_additionals(additionals);
            }
            Answer::NoData => drop(self.message.add_authority(zone.authority())),
            Answer::NoSuchName => {
                self.message.metadata.response_code = ResponseCode::NXDomain;
                self.message.add_authority(zone.authority());
            }
            // Clients ask again, which they would not after "no such name".
            Answer::NotKnownYet | Answer::Alias(..) | Answer::Elsewhere => {
                return self.fail(ResponseCode::ServFail);
            }
        }
        Step::Reply(self.encode())
    }

    /// Adds what a name server of the node said about the last alias; nothing if it said nothing.
    pub fn complete(mut self, found: Option<Message>) -> Vec<u8> {
        self.message.metadata.authoritative = false;
        match found {
            Some(found) => {
                self.message.metadata.response_code = found.metadata.response_code;
                self.message.add_answers(found.answers);
                self.message.add_authorities(found.authorities);
            }
            None => self.message.metadata.response_code = ResponseCode::ServFail,
        }
        self.encode()
    }

    /// In wire format; as many records as the client takes, marked if some are missing. Endpoints are shuffled, so that clients
    /// that take the first spread over all.
    fn encode(mut self) -> Vec<u8> {
        shuffle(&mut self.message.answers);
        let limit = usize::from(self.asked.limit);
        let fits = |message: &Message| message.to_vec().ok().filter(|bytes| bytes.len() <= limit);
        if let Some(bytes) = fits(&self.message) {
            return bytes;
        }
        // They only save questions.
        self.message.additionals.clear();
        if let Some(bytes) = fits(&self.message) {
            return bytes;
        }
        self.message.metadata.truncation = true;
        self.message.authorities.clear();
        let mut answers = std::mem::take(&mut self.message.answers);
        answers.truncate(limit / SMALLEST_RECORD);
        // The most of them that fit.
        let mut best = fits(&self.message).unwrap_or_default();
        let (mut low, mut high) = (0, answers.len());
        while low < high {
            let middle = (low + high).div_ceil(2);
            self.message.answers = answers.iter().take(middle).cloned().collect();
            match fits(&self.message) {
                Some(bytes) => (best, low) = (bytes, middle),
                None => high = middle - 1,
            }
        }
        best
    }
}

/// Mixes the records behind the aliases, which must stay first.
fn shuffle(records: &mut [Record]) {
    use rand::seq::SliceRandom;
    let aliases = records.iter().take_while(|record| record.record_type() == RecordType::CNAME).count();
    if let Some(records) = records.get_mut(aliases..)
        && records.iter().all(|record| matches!(record.record_type(), RecordType::A | RecordType::SRV))
    {
        records.shuffle(&mut rand::rng());
    }
}

/// A question of our own, with this identity.
pub(super) fn question(id: u16, name: &Name, kind: RecordType) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_DATAGRAM);
    message.set_edns(edns);
    message.to_vec().ok()
}

/// The same packet under another identity.
pub(super) fn with_id(packet: &[u8], id: u16) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if let Some(place) = packet.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
    packet
}

/// Whether a packet answers this question under this identity; others may be forged. Returns whether it is cut short.
pub(super) fn answers(packet: &[u8], id: u16, query: &Query) -> Option<bool> {
    if packet.len() < HEADER {
        return None;
    }
    let mut decoder = BinDecoder::new(packet);
    let header = Header::read(&mut decoder).ok()?;
    let found = Message::read_queries(&mut decoder, usize::from(header.counts.queries.min(2))).ok()?;
    let is_same = header.metadata.id == id
        && header.metadata.message_type == MessageType::Response
        && matches!(found.as_slice(), [one] if one.name() == query.name() && one.query_type() == query.query_type());
    is_same.then_some(header.metadata.truncation)
}

#[cfg(test)]
mod tests;
