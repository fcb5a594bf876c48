//! D-Bus messages as bytes: what a client of systemd sends and hears, in the byte order of this host, as local peers
//! use it. dbus.freedesktop.org, "D-Bus Specification", Marshaling and Message Protocol.

use super::Error;

/// Far more than systemd answers.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

const ORDER: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };

/// A value with its type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `y`
    Byte(u8),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    F64(f64),
    /// `s`
    Text(String),
    /// `a` of this type
    List(String, Vec<Value>),
    /// `(…)`
    Tuple(Vec<Value>),
}

impl Value {
    /// Returns the type as D-Bus writes it.
    pub fn signature(&self) -> String {
        match self {
            Self::Bool(_) => "b".to_owned(),
            Self::Byte(_) => "y".to_owned(),
            Self::I32(_) => "i".to_owned(),
            Self::U32(_) => "u".to_owned(),
            Self::I64(_) => "x".to_owned(),
            Self::U64(_) => "t".to_owned(),
            Self::F64(_) => "d".to_owned(),
            Self::Text(_) => "s".to_owned(),
            Self::List(of, _) => format!("a{of}"),
            Self::Tuple(values) => format!("({})", values.iter().map(Self::signature).collect::<String>()),
        }
    }
}

/// Bytes being written; offsets count from the start of a message or a body, which both begin aligned.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Returns what was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Writes a value without its type.
    pub fn value(&mut self, value: &Value) -> &mut Self {
        match value {
            Value::Bool(is_true) => self.number(u32::from(*is_true)),
            Value::Byte(byte) => self.0.push(*byte),
            Value::I32(number) => self.aligned(&number.to_ne_bytes()),
            Value::U32(number) => self.number(*number),
            Value::I64(number) => self.aligned(&number.to_ne_bytes()),
            Value::U64(number) => self.aligned(&number.to_ne_bytes()),
            Value::F64(number) => self.aligned(&number.to_ne_bytes()),
            Value::Text(text) => self.text(text),
            Value::List(of, values) => {
                let place = self.begin_list(alignment(of));
                for value in values {
                    self.value(value);
                }
                self.end_list(place);
            }
            Value::Tuple(values) => {
                self.align(8);
                for value in values {
                    self.value(value);
                }
            }
        }
        self
    }

    /// Writes an array of `(sv)`: names, and values with their types.
    pub fn named<'a>(&mut self, list: impl Iterator<Item = (&'a str, &'a Value)>) -> &mut Self {
        let place = self.begin_list(8);
        for (name, value) in list {
            self.align(8);
            self.text(name);
            self.signature(&value.signature());
            self.value(value);
        }
        self.end_list(place);
        self
    }

    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn aligned(&mut self, bytes: &[u8]) {
        self.align(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn number(&mut self, number: u32) {
        self.aligned(&number.to_ne_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    /// The length does not count the padding before the first element.
    fn begin_list(&mut self, alignment: usize) -> (usize, usize) {
        self.number(0);
        let place = self.0.len() - 4;
        self.align(alignment);
        (place, self.0.len())
    }

    fn end_list(&mut self, (place, begin): (usize, usize)) {
        let length = (self.0.len() - begin) as u32;
        self.0[place..place + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'x' | b't' | b'd' | b'(') => 8,
        Some(b'y' | b'g') => 1,
        _ => 4,
    }
}

/// A method call.
#[derive(Debug)]
pub struct Call<'a> {
    /// Name of the peer on a bus; a direct connection has but one.
    pub destination: Option<&'a str>,
    /// Path of the object.
    pub path: &'a str,
    /// Interface of the method.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// Types of the arguments.
    pub signature: &'a str,
    /// The arguments.
    pub body: Vec<u8>,
}

impl Call<'_> {
    /// Returns the message with this number.
    pub fn encode(&self, serial: u32) -> Vec<u8> {
        let mut writer = Writer(vec![ORDER, 1, 0, 1]);
        writer.number(self.body.len() as u32);
        writer.number(serial);
        let place = writer.begin_list(8);
        for (code, text) in
            [(1, Some(self.path)), (2, Some(self.interface)), (3, Some(self.member)), (6, self.destination)]
        {
            let Some(text) = text else { continue };
            writer.align(8);
            writer.0.push(code);
            writer.signature(if code == 1 { "o" } else { "s" });
            writer.text(text);
        }
        if !self.signature.is_empty() {
            writer.align(8);
            writer.0.push(8);
            writer.signature("g");
            writer.signature(self.signature);
        }
        writer.end_list(place);
        writer.align(8);
        writer.0.extend_from_slice(&self.body);
        writer.into_bytes()
    }
}

/// Returns a message that is no call, as systemd would send it.
#[cfg(test)]
pub fn answer(kind: u8, fields: &[(u8, &str)], reply_to: u32, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut writer = Writer(vec![ORDER, kind, 0, 1]);
    writer.number(body.len() as u32);
    writer.number(1);
    let place = writer.begin_list(8);
    for (code, text) in fields {
        writer.align(8);
        writer.0.push(*code);
        writer.signature(if *code == 1 { "o" } else { "s" });
        writer.text(text);
    }
    if reply_to != 0 {
        writer.align(8);
        writer.0.push(5);
        writer.signature("u");
        writer.number(reply_to);
    }
    if !signature.is_empty() {
        writer.align(8);
        writer.0.push(8);
        writer.signature("g");
        writer.signature(signature);
    }
    writer.end_list(place);
    writer.align(8);
    writer.0.extend_from_slice(body);
    writer.into_bytes()
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somebody calls us.
    Call,
    /// The answer to a call.
    Return,
    /// A call that failed.
    Error,
    /// A signal, or what we do not know.
    Signal,
}

/// A message that came.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// The call that it answers.
    pub reply_to: u32,
    /// Interface of a signal.
    pub interface: String,
    /// Name of a signal, or of an error.
    pub name: String,
    /// Types of the arguments.
    pub signature: String,
    /// The arguments.
    pub body: Vec<u8>,
}

/// Returns the length of the message that begins with these bytes, once it is known.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let Some(head) = bytes.get(..16) else { return Ok(None) };
    if head[0] != ORDER || head[3] != 1 {
        return Err(Error::Protocol { reason: "a message of another byte order or version came" });
    }
    let at = |place: usize| u32::from_ne_bytes(head[place..place + 4].try_into().expect("four bytes")) as usize;
    let length = 16usize.saturating_add(at(12).next_multiple_of(8)).saturating_add(at(4));
    match length <= MAX_MESSAGE_BYTES {
        true => Ok(Some(length)),
        false => Err(Error::Protocol { reason: "a message of more than 1 MiB came" }),
    }
}

/// Reads a whole message.
pub fn decode(bytes: &[u8]) -> Result<Message, Error> {
    let kind = match bytes.get(1) {
        Some(1) => Kind::Call,
        Some(2) => Kind::Return,
        Some(3) => Kind::Error,
        _ => Kind::Signal,
    };
    let mut message = Message {
        kind,
        reply_to: 0,
        interface: String::new(),
        name: String::new(),
        signature: String::new(),
        body: Vec::new(),
    };
    let mut reader = Reader { bytes, at: 12 };
    let end = reader.number()? as usize + 16;
    while reader.at < end {
        reader.align(8);
        let code = reader.byte()?;
        match (code, reader.signature()?.as_str()) {
            (2, "s") => message.interface = reader.text()?,
            (3 | 4, "s") => message.name = reader.text()?,
            (5, "u") => message.reply_to = reader.number()?,
            (8, "g") => message.signature = reader.signature()?,
            (_, "s" | "o") => drop(reader.text()?),
            (_, "u") => drop(reader.number()?),
            (_, "g") => drop(reader.signature()?),
            _ => return Err(Error::Protocol { reason: "a message with an unknown field came" }),
        }
    }
    reader.align(8);
    message.body = bytes.get(reader.at..).unwrap_or_default().to_vec();
    Ok(message)
}

/// Bytes being read.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads the arguments of a message.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Reads `u`.
    pub fn number(&mut self) -> Result<u32, Error> {
        self.align(4);
        let bytes = self.take(4)?;
        Ok(u32::from_ne_bytes(bytes.try_into().expect("four bytes")))
    }

    /// Reads `s` or `o`.
    pub fn text(&mut self) -> Result<String, Error> {
        let length = self.number()? as usize;
        self.terminated(length)
    }

    /// Reads `g`, as it stands before a variant too.
    pub fn signature(&mut self) -> Result<String, Error> {
        let length = self.byte()? as usize;
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Result<String, Error> {
        let text = self.take(length)?.to_vec();
        self.take(1)?;
        String::from_utf8(text).map_err(|_| Error::Protocol { reason: "a text that is not UTF-8 came" })
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn byte(&mut self) -> Result<u8, Error> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(count);
        let bytes = end.and_then(|end| self.bytes.get(self.at..end));
        self.at += count;
        bytes.ok_or(Error::Protocol { reason: "a message that ends too early came" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_bytes_of_the_specification() {
        let call =
            Call { destination: None, path: "/a", interface: "b.c", member: "D", signature: "", body: Vec::new() };

        let expected: Vec<u8> = [
            &[ORDER, 1, 0, 1][..],
            &0u32.to_ne_bytes(),
            &7u32.to_ne_bytes(),
            &42u32.to_ne_bytes(),
            b"\x01\x01o\0",
            &2u32.to_ne_bytes(),
            b"/a\0\0\0\0\0\0",
            b"\x02\x01s\0",
            &3u32.to_ne_bytes(),
            b"b.c\0\0\0\0\0",
            b"\x03\x01s\0",
            &1u32.to_ne_bytes(),
            b"D\0\0\0\0\0\0\0",
        ]
        .concat();
        assert_eq!(call.encode(7), expected);
        assert_eq!(length(&expected).unwrap(), Some(expected.len()));
    }

    #[test]
    fn values_are_aligned_and_lists_know_their_bytes() {
        let mut writer = Writer::default();
        let list = Value::List("t".to_owned(), vec![Value::U64(5)]);
        writer.value(&Value::Byte(1)).value(&list).value(&Value::Text("x".to_owned()));

        let expected = [&[1, 0, 0, 0][..], &8u32.to_ne_bytes(), &5u64.to_ne_bytes(), &1u32.to_ne_bytes(), b"x\0"];
        assert_eq!(writer.into_bytes(), expected.concat());
        let of = Value::Tuple(vec![Value::Text(String::new()), Value::List("(ss)".to_owned(), Vec::new())]);
        assert_eq!(of.signature(), "(sa(ss))");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut body = Writer::default();
        body.value(&Value::U32(9)).value(&Value::Text("job".to_owned()));
        let call = Call {
            destination: Some("x.y"),
            path: "/p",
            interface: "i.f",
            member: "M",
            signature: "us",
            body: body.into_bytes(),
        };

        let message = decode(&call.encode(1)).unwrap();

        assert_eq!((message.kind, message.interface.as_str(), message.name.as_str()), (Kind::Call, "i.f", "M"));
        assert_eq!(message.signature, "us");
        let mut reader = Reader::new(&message.body);
        assert_eq!((reader.number().unwrap(), reader.text().unwrap()), (9, "job".to_owned()));
    }

    #[test]
    fn messages_cut_anywhere_or_of_any_bytes_are_errors_and_no_panics() {
        let call =
            Call { destination: None, path: "/a", interface: "b", member: "C", signature: "s", body: vec![9; 9] };
        let whole = call.encode(1);
        for end in 0..whole.len() {
            let _ = decode(&whole[..end]).map(|message| Reader::new(&message.body).text());
        }
        for place in 12..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] = 0xff;
            let _ = decode(&bytes);
        }
        assert!(length(&[b'?'; 16]).is_err());
        assert!(length(&[[ORDER, 1, 0, 1].as_slice(), &[0xff; 12]].concat()).is_err());
    }
}
