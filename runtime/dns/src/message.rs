//! Questions as they come, and answers for names of containers. Whatever comes is an answer, a refusal or silence; nothing
//! that is not understood goes on to other servers.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata::PTR},
    serialize::binary::{BinDecodable, BinDecoder},
};

/// The most bytes of an answer over UDP, whatever the asker takes: what a server of names usually sends.
pub const MAX_DATAGRAM: u16 = 4096;
/// The most bytes of a question. One for a name of 255 bytes with all usual options has 600.
pub const MAX_QUESTION: usize = 2048;
/// Bytes of the header: RFC 1035, 4.1.1.
const HEADER: usize = 12;
/// For how many seconds an answer may be kept. Addresses change when a container is started again, and some programs
/// (nginx) believe what they were told for as long as they were told.
const TTL: u32 = 5;

/// What a packet is.
#[derive(Debug)]
pub enum Packet {
    /// Nobody who asks something; there is nothing to say.
    Noise,
    /// It is refused with this answer.
    Refused(Vec<u8>),
    /// A question.
    Asked(Box<Question>),
}

/// A question.
#[derive(Debug)]
pub struct Question {
    message: Message,
    query: Query,
}

/// What is asked of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Everything.
    Any,
    /// Something that names of containers do not have.
    Other,
}

/// How an answer came, for its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In one datagram, as long as the asker takes.
    Udp,
    /// In a stream.
    Tcp,
}

/// Reads what came.
pub fn read(bytes: &[u8]) -> Packet {
    let mut decoder = BinDecoder::new(bytes);
    let Ok(header) = Header::read(&mut decoder) else { return Packet::Noise };
    let metadata = header.metadata;
    if metadata.message_type != MessageType::Query {
        return Packet::Noise;
    }
    let refused = |code| {
        let refusal = Message::error_msg(metadata.id, metadata.op_code, code);
        refusal.to_vec().map_or(Packet::Noise, Packet::Refused)
    };
    if metadata.op_code != OpCode::Query {
        return refused(ResponseCode::NotImp);
    }
    if header.counts.queries != 1 || bytes.len() > MAX_QUESTION {
        return refused(ResponseCode::FormErr);
    }
    let Ok(message) = Message::from_vec(bytes) else { return refused(ResponseCode::FormErr) };
    let [query] = message.queries.as_slice() else { return refused(ResponseCode::FormErr) };
    let question = Question { query: query.clone(), message };
    if question.message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Packet::Refused(question.answer(ResponseCode::BADVERS, Vec::new(), Transport::Udp));
    }
    // Whole zones are nobody's to ask for.
    if matches!(question.query.query_type, RecordType::AXFR | RecordType::IXFR) {
        return Packet::Refused(question.refuse(ResponseCode::Refused));
    }
    Packet::Asked(Box::new(question))
}

impl Question {
    /// The name, in lower case, without the dot at its end. Dots and other bytes within a label are written as `\.` and `\123`.
    pub fn name(&self) -> String {
        let mut name = self.query.name.to_lowercase().to_ascii();
        if name.ends_with('.') {
            name.pop();
        }
        name
    }

    /// What is asked of it. None: it is of no class that names of containers are of.
    pub fn kind(&self) -> Option<Kind> {
        if !matches!(self.query.query_class, DNSClass::IN | DNSClass::ANY) {
            return None;
        }
        Some(match self.query.query_type {
            RecordType::A => Kind::A,
            RecordType::AAAA => Kind::Aaaa,
            RecordType::ANY => Kind::Any,
            _ => Kind::Other,
        })
    }

    /// The address whose name is asked for.
    pub fn reversed(&self) -> Option<IpAddr> {
        if !matches!(self.query.query_type, RecordType::PTR | RecordType::ANY) {
            return None;
        }
        let prefix = self.query.name.parse_arpa_name().ok()?;
        (prefix.prefix_len() == prefix.max_prefix_len()).then(|| prefix.addr())
    }

    /// The most bytes that the asker takes in a datagram.
    pub fn limit(&self) -> usize {
        let said = self.message.edns.as_ref().map_or(512, |edns| edns.max_payload().max(512));
        usize::from(said.min(MAX_DATAGRAM))
    }

    /// Answers with addresses; with none: there is such a name, and nothing of this kind.
    pub fn addresses(&self, addresses: Vec<IpAddr>, transport: Transport) -> Vec<u8> {
        self.answer(ResponseCode::NoError, addresses.into_iter().map(RData::from).collect(), transport)
    }

    /// Answers with the name of an address. None: it cannot be a name on the wire.
    pub fn pointer(&self, name: &str, transport: Transport) -> Option<Vec<u8>> {
        let mut name = Name::from_ascii(name).ok()?;
        name.set_fqdn(true);
        Some(self.answer(ResponseCode::NoError, vec![RData::PTR(PTR(name))], transport))
    }

    /// There is no such name.
    pub fn unknown(&self) -> Vec<u8> {
        self.refuse(ResponseCode::NXDomain)
    }

    /// Nobody could be asked.
    pub fn failed(&self) -> Vec<u8> {
        self.refuse(ResponseCode::ServFail)
    }

    fn refuse(&self, code: ResponseCode) -> Vec<u8> {
        self.answer(code, Vec::new(), Transport::Udp)
    }

    fn answer(&self, code: ResponseCode, data: Vec<RData>, transport: Transport) -> Vec<u8> {
        let asked = &self.message.metadata;
        let mut answer = Message::response(asked.id, asked.op_code);
        answer.metadata.recursion_desired = asked.recursion_desired;
        answer.metadata.checking_disabled = asked.checking_disabled;
        answer.metadata.recursion_available = true;
        answer.metadata.authoritative = code == ResponseCode::NoError;
        answer.metadata.response_code = code;
        answer.add_query(self.query.clone());
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_DATAGRAM).set_rcode_high(code.high());
            answer.set_edns(edns);
        }
        for data in data {
            answer.add_answer(Record::from_rdata(self.query.name.clone(), TTL, data));
        }
        let limit = if transport == Transport::Udp { self.limit() } else { usize::from(u16::MAX) };
        // What is too long for a stream cannot be written at all.
        match answer.to_vec() {
            Ok(bytes) if bytes.len() <= limit => bytes,
            _ => answer.truncate().to_vec().unwrap_or_default(),
        }
    }

    /// Whether bytes answer this question, as it was asked with another number.
    pub fn is_answered_by(&self, bytes: &[u8], id: u16) -> bool {
        let mut decoder = BinDecoder::new(bytes);
        let Ok(Header { metadata, counts, .. }) = Header::read(&mut decoder) else { return false };
        if metadata.id != id || metadata.message_type != MessageType::Response {
            return false;
        }
        match counts.queries {
            1 => Query::read(&mut decoder).is_ok_and(|query| query == self.query),
            // Who did not understand the question may not repeat it.
            0 => metadata.response_code != ResponseCode::NoError,
            _ => false,
        }
    }

    /// Cuts an answer of others to what the asker takes, and says that it did.
    pub fn fit(&self, bytes: Vec<u8>, transport: Transport) -> Vec<u8> {
        if transport == Transport::Tcp || bytes.len() <= self.limit() {
            return bytes;
        }
        let mut answer = Message::response(self.message.metadata.id, OpCode::Query);
        let mut decoder = BinDecoder::new(&bytes);
        if let Ok(header) = Header::read(&mut decoder) {
            answer.metadata = header.metadata;
        }
        answer.metadata.truncation = true;
        answer.add_query(self.query.clone());
        answer.to_vec().unwrap_or_default()
    }
}

/// The number of a packet.
pub fn id(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]))
}

/// Gives a packet a number.
pub fn set_id(bytes: &mut [u8], id: u16) {
    if let Some(place) = bytes.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// Whether an answer says that its server could not, or would not, find out.
pub fn is_failure(bytes: &[u8]) -> bool {
    // SERVFAIL, NOTIMP, REFUSED.
    bytes.len() >= HEADER && matches!(bytes[3] & 15, 2 | 4 | 5)
}

#[cfg(test)]
mod tests;
