use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use proptest::prelude::*;

use super::*;

/// A question as a C library asks it.
pub fn asked(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, kind));
    message
}

fn with_edns(mut message: Message, payload: u16, version: u8) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload).set_version(version);
    message.set_edns(edns);
    message
}

fn question(message: &Message) -> Box<Question> {
    match read(&message.to_vec().unwrap()) {
        Packet::Asked(question) => question,
        other => panic!("{other:?}"),
    }
}

fn refused(bytes: &[u8]) -> ResponseCode {
    match read(bytes) {
        Packet::Refused(answer) => {
            let answer = Message::from_vec(&answer).unwrap();
            assert_eq!((answer.metadata.id, answer.metadata.message_type), (id(bytes).unwrap(), MessageType::Response));
            answer.metadata.response_code
        }
        other => panic!("{other:?}"),
    }
}

fn addresses(count: u8) -> Vec<IpAddr> {
    (0..count).map(|number| IpAddr::from([10, 0, 0, number])).collect()
}

#[test]
fn names_are_compared_in_lower_case_and_a_dot_in_a_label_parts_nothing() {
    assert_eq!(question(&asked("WEB.Front", RecordType::A)).name(), "web.front");
    let bytes = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x09web.front\x00\x00\x01\x00\x01"].concat();
    match read(&bytes) {
        Packet::Asked(question) => assert_ne!(question.name(), "web.front"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_repeats_the_question_and_says_what_it_is() {
    let asked = with_edns(asked("Web", RecordType::A), 1232, 0);

    let answer = question(&asked).addresses(addresses(2), Transport::Udp);

    let answer = Message::from_vec(&answer).unwrap();
    let metadata = answer.metadata;
    assert_eq!(
        (metadata.id, metadata.message_type, metadata.response_code),
        (7, MessageType::Response, ResponseCode::NoError)
    );
    assert!(
        metadata.authoritative && metadata.recursion_available && metadata.recursion_desired && !metadata.truncation
    );
    assert_eq!(answer.queries, asked.queries);
    assert_eq!(answer.queries[0].name.to_ascii(), "Web.", "the case is the asker's");
    assert_eq!(answer.answers.len(), 2);
    assert!(answer.answers.iter().all(|record| record.ttl == TTL));
    assert_eq!(answer.edns.unwrap().max_payload(), MAX_DATAGRAM);
}

#[test]
fn there_is_no_address_and_there_is_no_name_are_two_answers() {
    let question = question(&asked("web", RecordType::AAAA));
    for (bytes, code) in [
        (question.addresses(Vec::new(), Transport::Udp), ResponseCode::NoError),
        (question.unknown(), ResponseCode::NXDomain),
        (question.failed(), ResponseCode::ServFail),
    ] {
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (code, 0));
        assert!(answer.edns.is_none(), "nobody asked for it");
    }
}

#[test]
fn what_is_too_long_for_a_datagram_is_cut_and_says_so() {
    let (plain, wide) = (asked("web", RecordType::A), with_edns(asked("web", RecordType::A), 4096, 0));
    for (message, transport, is_cut) in
        [(&plain, Transport::Udp, true), (&plain, Transport::Tcp, false), (&wide, Transport::Udp, false)]
    {
        let question = question(message);

        let bytes = question.addresses(addresses(100), transport);

        assert!(transport == Transport::Tcp || bytes.len() <= question.limit(), "{}", bytes.len());
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!((answer.metadata.truncation, answer.answers.len()), if is_cut { (true, 0) } else { (false, 100) });
    }
    assert_eq!(question(&with_edns(asked("web", RecordType::A), 65535, 0)).limit(), usize::from(MAX_DATAGRAM));
    assert_eq!(question(&with_edns(asked("web", RecordType::A), 1, 0)).limit(), 512);
    let foreign = question(&plain).fit(question(&plain).addresses(addresses(100), Transport::Tcp), Transport::Udp);
    let cut = Message::from_vec(&foreign).unwrap();
    assert!(cut.metadata.truncation && foreign.len() <= 512 && cut.queries == plain.queries);
}

#[test]
fn an_address_is_asked_for_backwards() {
    let reversed = |name: &str, kind| question(&asked(name, kind)).reversed().map(|address| address.to_string());
    assert_eq!(reversed("5.0.77.10.in-addr.arpa", RecordType::PTR).as_deref(), Some("10.77.0.5"));
    let six = format!("5.{}7.7.0.0.0.0.d.f.ip6.arpa", "0.".repeat(23));
    assert_eq!(reversed(&six, RecordType::PTR).as_deref(), Some("fd00:77::5"));
    for (name, kind) in [
        ("77.10.in-addr.arpa", RecordType::PTR),
        ("300.0.77.10.in-addr.arpa", RecordType::PTR),
        ("1.5.0.77.10.in-addr.arpa", RecordType::PTR),
        ("web", RecordType::PTR),
        ("5.0.77.10.in-addr.arpa", RecordType::A),
    ] {
        assert_eq!(reversed(name, kind), None, "{name}");
    }
    let answer = question(&asked("5.0.77.10.in-addr.arpa", RecordType::PTR)).pointer("my_db.back", Transport::Udp);
    let answer = Message::from_vec(&answer.unwrap()).unwrap();
    assert_eq!(answer.answers[0].data.to_string(), "my_db.back.");
    let long = "x".repeat(64);
    assert!(question(&asked("5.0.77.10.in-addr.arpa", RecordType::PTR)).pointer(&long, Transport::Udp).is_none());
}

#[test]
fn what_is_no_question_is_refused_or_passed_over() {
    let plain = asked("web", RecordType::A).to_vec().unwrap();
    let changed = |place: usize, byte: u8| {
        let mut bytes = plain.clone();
        bytes[place] = byte;
        bytes
    };
    assert!(
        matches!(read(&changed(2, 0x81)), Packet::Noise),
        "an answer is not answered: nobody plays ping-pong with us"
    );
    for length in 0..12 {
        assert!(matches!(read(&plain[..length]), Packet::Noise), "{length}");
    }
    assert_eq!(refused(&changed(2, 0x28)), ResponseCode::NotImp, "an update");
    for (what, bytes) in [
        ("no question", changed(5, 0)),
        ("two questions", changed(5, 2)),
        ("65281 questions", changed(4, 255)),
        ("half a question", plain[..plain.len() - 3].to_vec()),
        ("answers that are not there", changed(7, 9)),
        ("a name that leads to itself", [&plain[..12], &[0xc0, 12, 0, 1, 0, 1]].concat()),
        ("a name that leads forward", [&plain[..12], &[0xc0, 99, 0, 1, 0, 1]].concat()),
        ("a label of a reserved kind", [&plain[..12], &[0x80, 1, 0, 0, 1, 0, 1]].concat()),
        (
            "a name of 300 bytes",
            [
                &plain[..12],
                &b"\x3bxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".repeat(5),
                &[0, 0, 1, 0, 1],
            ]
            .concat(),
        ),
        ("more bytes than a question has", [plain.clone(), vec![0; MAX_QUESTION]].concat()),
    ] {
        assert_eq!(refused(&bytes), ResponseCode::FormErr, "{what}");
    }
    for kind in [RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(refused(&asked("web", kind).to_vec().unwrap()), ResponseCode::Refused);
    }
    let twice = with_edns(asked("web", RecordType::A), 1232, 0).to_vec().unwrap();
    let mut twice = [&twice[..], &twice[twice.len() - 11..]].concat();
    twice[11] = 2;
    assert_eq!(refused(&twice), ResponseCode::FormErr, "two of what there is one of: RFC 6891, 6.1.1");
    let newer = read(&with_edns(asked("web", RecordType::A), 1232, 1).to_vec().unwrap());
    let Packet::Refused(answer) = newer else { panic!("{newer:?}") };
    let answer = Message::from_vec(&answer).unwrap();
    let edns = answer.edns.unwrap();
    assert_eq!((answer.metadata.response_code.low(), edns.rcode_high(), edns.version()), (0, 1, 0), "BADVERS");
}

#[test]
fn all_types_have_a_kind_and_other_classes_none() {
    for number in 0..=u16::MAX {
        let mut bytes = asked("web", RecordType::A).to_vec().unwrap();
        let end = bytes.len();
        bytes[end - 4..end - 2].copy_from_slice(&number.to_be_bytes());
        match read(&bytes) {
            Packet::Asked(question) => assert!(question.kind().is_some(), "{number}"),
            Packet::Refused(_) => assert!(matches!(number, 251 | 252), "{number}"),
            Packet::Noise => panic!("{number}"),
        }
    }
    let mut chaos = asked("version.bind", RecordType::TXT);
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(question(&chaos).kind(), None);
}

#[test]
fn only_an_answer_to_the_question_is_taken_for_one() {
    let asked = asked("Example.com", RecordType::A);
    let question = question(&asked);
    let answer = |change: fn(&mut Message)| {
        let mut answer = Message::response(99, OpCode::Query);
        answer.add_queries(asked.queries.iter().cloned());
        change(&mut answer);
        question.is_answered_by(&answer.to_vec().unwrap(), 99)
    };
    assert!(answer(|_| {}));
    assert!(answer(|answer| answer.queries[0].name = answer.queries[0].name.to_lowercase()));
    assert!(!answer(|answer| answer.metadata.id = 98));
    assert!(!answer(|answer| answer.metadata.message_type = MessageType::Query));
    assert!(!answer(|answer| answer.queries[0].query_type = RecordType::AAAA));
    assert!(!answer(|answer| answer.queries[0].name = Name::from_ascii("evil.com.").unwrap()));
    assert!(!answer(|answer| answer.queries.clear()));
    assert!(answer(|answer| {
        answer.queries.clear();
        answer.metadata.response_code = ResponseCode::FormErr;
    }));
    assert!(!question.is_answered_by(&[0, 99], 99));
}

#[test]
fn a_number_is_changed_and_nothing_else() {
    let mut message = with_edns(asked("web", RecordType::A), 1232, 0);
    message.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Unknown(10, b"12345678".to_vec()));
    let bytes = message.to_vec().unwrap();
    let mut changed = bytes.clone();
    set_id(&mut changed, 0xabcd);
    assert_eq!((id(&changed), &changed[2..]), (Some(0xabcd), &bytes[2..]));
    assert!(message.edns.unwrap().option(EdnsCode::Cookie).is_some());
}

proptest! {
    /// Whatever comes is answered by something that can be read, in the length that the asker takes, or not at all.
    #[test]
    fn hostile_packets_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        harmless(&bytes)?;
    }

    /// Such as are questions nearly.
    #[test]
    fn nearly_questions_do_no_harm(
        place in 0_usize..80, byte: u8, length in 0_usize..80, name in "[a-z]{1,8}(\\.[a-z]{1,8}){0,3}", payload: u16,
    ) {
        let mut bytes = with_edns(asked(&name, RecordType::A), payload, 0).to_vec().unwrap();
        if let Some(place) = bytes.get_mut(place) {
            *place = byte;
        }
        harmless(&bytes)?;
        bytes.truncate(length);
        harmless(&bytes)?;
    }

    /// Answers of servers may be anything too.
    #[test]
    fn hostile_answers_do_no_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        let question = question(&asked("web", RecordType::A));
        set_id(&mut bytes, 7);
        let _either = question.is_answered_by(&bytes, 7);
        let _either = is_failure(&bytes);
        prop_assert!(question.fit(bytes, Transport::Udp).len() <= question.limit());
    }
}

fn harmless(bytes: &[u8]) -> Result<(), TestCaseError> {
    match read(bytes) {
        Packet::Noise => {}
        Packet::Refused(answer) => prop_assert!(Message::from_vec(&answer).is_ok() && answer.len() <= 512),
        Packet::Asked(question) => {
            let _name = question.name();
            for answer in [question.addresses(addresses(50), Transport::Udp), question.unknown(), question.failed()] {
                prop_assert!(Message::from_vec(&answer).is_ok() && answer.len() <= question.limit());
            }
        }
    }
    Ok(())
}
