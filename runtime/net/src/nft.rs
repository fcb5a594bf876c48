//! Rules of nftables over netlink: nf_tables as include/uapi/linux/netfilter/nf_tables.h has it. One batch is one
//! transaction: the kernel takes all of it or nothing. `firewall` says which rules; `expression` is what rules are made of.

use rustix::io::Errno;

use crate::netlink::{ACK, APPEND, Attributes, Batch as Netlink, CREATE, Socket};

pub mod expression;

pub use expression::{Expression, Verdict};

/// NFNL_SUBSYS_NFTABLES, in the high byte of a message's kind.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;

/// NFPROTO_INET: IPv4 and IPv6 in one table.
const INET: u8 = 1;

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_LENGTH: u16 = 7;
const SET_ID: u16 = 10;
const SET_USERDATA: u16 = 13;
const SET_INTERVAL: u32 = 0x4;
const SET_MAP: u32 = 0x8;
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS_LIST: u16 = 3;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_FLAGS: u16 = 3;
const ELEMENT_INTERVAL_END: u32 = 1;
const DATA_VALUE: u16 = 1;
/// Elements of one message: the length of its list is a 16-bit number.
const LIST_BYTES: usize = 48 << 10;

/// Where packets pass a base chain. include/uapi/linux/netfilter.h, `enum nf_inet_hooks`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Everything that comes in.
    PreRouting = 0,
    /// What goes through this host.
    Forward = 2,
    /// What programs of this host send.
    Output = 3,
    /// Everything that goes out.
    PostRouting = 4,
}

/// What is hung on a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// "filter" or "nat".
    pub kind: &'static str,
    /// Where.
    pub hook: Hook,
    /// In which order among chains of the same hook: lower ones first.
    pub priority: i32,
}

/// A set or a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: &'static str,
    /// What its keys are made of, one after the other.
    pub key: &'static [Field],
    /// What a key leads to. None: it is a set.
    pub data: Option<&'static [Field]>,
    /// Keys stand for all from them on, to the next end of an interval.
    pub is_interval: bool,
}

/// A part of a key: nft's types, by the numbers that `nft list` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// ipv4_addr
    Address4,
    /// ipv6_addr
    Address6,
    /// ifname
    Interface,
    /// inet_proto
    Protocol,
    /// inet_service
    Port,
}

impl Field {
    fn number(self) -> u32 {
        match self {
            Self::Address4 => 7,
            Self::Address6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Interface => 41,
        }
    }

    /// Bytes in a key: whole registers of four.
    fn length(self) -> u32 {
        match self {
            Self::Address4 | Self::Protocol | Self::Port => 4,
            Self::Address6 | Self::Interface => 16,
        }
    }
}

/// The number of a type that is made of several.
fn type_of(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |all, field| all << 6 | field.number())
}

fn length_of(fields: &[Field]) -> u32 {
    fields.iter().map(|field| field.length()).sum()
}

/// One element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Bytes of the key.
    pub key: Vec<u8>,
    /// What it leads to, in a map.
    pub data: Vec<u8>,
    /// It ends an interval: the first key that is not in it.
    pub is_end: bool,
}

impl Element {
    /// An element of a set.
    pub fn of(key: Vec<u8>) -> Self {
        Self { key, data: Vec::new(), is_end: false }
    }
}

/// Changes of one table.
#[derive(Debug)]
pub struct Batch {
    netlink: Netlink,
    table: String,
    sets: u32,
}

impl Batch {
    /// No changes yet.
    pub fn of(table: &str) -> Self {
        let mut netlink = Netlink::transaction();
        netlink.message(BATCH_BEGIN, 0, &header(0, SUBSYSTEM), |_| {});
        Self { netlink, table: table.to_owned(), sets: 0 }
    }

    fn message(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Attributes<'_>, &str)) {
        let table = &self.table;
        // Every change is answered: the end of a batch is not before Linux 6.10.
        self.netlink
            .message(SUBSYSTEM << 8 | kind, flags | ACK, &header(INET, 0), |attributes| fill(attributes, table));
    }

    /// Makes the table where it is not there.
    pub fn add_table(&mut self) {
        self.message(NEWTABLE, CREATE, |message, table| message.text(TABLE_NAME, table));
    }

    /// Removes the table and all that is in it. It must be there.
    pub fn delete_table(&mut self) {
        self.message(DELTABLE, 0, |message, table| message.text(TABLE_NAME, table));
    }

    /// Makes a chain where it is not there.
    pub fn add_chain(&mut self, name: &str, base: Option<Base>) {
        self.message(NEWCHAIN, CREATE, |message, table| {
            message.text(CHAIN_TABLE, table);
            message.text(CHAIN_NAME, name);
            if let Some(base) = base {
                message.nest(CHAIN_HOOK, &[], |hook| {
                    hook.big(HOOK_NUMBER, base.hook as u32);
                    hook.big(HOOK_PRIORITY, base.priority as u32);
                });
                message.big(CHAIN_POLICY, Verdict::ACCEPT);
                message.text(CHAIN_TYPE, base.kind);
            }
        });
    }

    /// Removes the rules of a chain.
    pub fn flush_chain(&mut self, chain: &str) {
        self.message(DELRULE, 0, |message, table| {
            message.text(RULE_TABLE, table);
            message.text(RULE_CHAIN, chain);
        });
    }

    /// Adds a rule at the end of a chain.
    pub fn add_rule(&mut self, chain: &str, expressions: &[Expression]) {
        self.message(NEWRULE, CREATE | APPEND, |message, table| {
            message.text(RULE_TABLE, table);
            message.text(RULE_CHAIN, chain);
            message.nest(RULE_EXPRESSIONS, &[], |list| {
                expressions.iter().for_each(|expression| list.nest(LIST_ELEMENT, &[], |item| expression.write(item)));
            });
        });
    }

    /// Makes a set where it is not there.
    pub fn add_set(&mut self, set: &Set) {
        self.sets += 1;
        let id = self.sets;
        self.message(NEWSET, CREATE, |message, table| {
            message.text(SET_TABLE, table);
            message.text(SET_NAME, set.name);
            let mut flags = 0;
            if set.is_interval {
                flags |= SET_INTERVAL;
            }
            message.big(SET_KEY_TYPE, type_of(set.key));
            message.big(SET_KEY_LENGTH, length_of(set.key));
            if let Some(data) = set.data {
                flags |= SET_MAP;
                message.big(SET_DATA_TYPE, type_of(data));
                message.big(SET_DATA_LENGTH, length_of(data));
            }
            message.big(SET_FLAGS, flags);
            message.big(SET_ID, id);
            // What `nft list` needs to show keys: NFTNL_UDATA_SET_KEYBYTEORDER; names are in the host's order.
            let order: u32 = if set.key.contains(&Field::Interface) { 1 } else { 2 };
            let mut notes = [&[0, 4], order.to_ne_bytes().as_slice()].concat();
            if set.data.is_some() {
                // NFTNL_UDATA_SET_DATABYTEORDER: that of the network.
                notes.extend([&[1, 4], 2_u32.to_ne_bytes().as_slice()].concat());
            }
            message.bytes(SET_USERDATA, &notes);
        });
    }

    /// Removes the elements of a set.
    pub fn flush_set(&mut self, set: &Set) {
        self.message(DELSETELEM, 0, |message, table| {
            message.text(ELEMENTS_TABLE, table);
            message.text(ELEMENTS_SET, set.name);
        });
    }

    /// Adds elements to a set; those that are there stay.
    pub fn add_elements(&mut self, set: &Set, elements: &[Element]) {
        self.elements(NEWSETELEM, CREATE, set, elements);
    }

    /// Removes elements of a set, which must be there.
    pub fn delete_elements(&mut self, set: &Set, elements: &[Element]) {
        self.elements(DELSETELEM, 0, set, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &Set, elements: &[Element]) {
        let mut rest = elements;
        while !rest.is_empty() {
            let mut written = 0;
            self.message(kind, flags, |message, table| {
                message.text(ELEMENTS_TABLE, table);
                message.text(ELEMENTS_SET, set.name);
                message.nest(ELEMENTS_LIST, &[], |list| {
                    let start = list.length();
                    for element in rest {
                        if list.length() - start > LIST_BYTES {
                            break;
                        }
                        list.nest(LIST_ELEMENT, &[], |item| write_element(item, element));
                        written += 1;
                    }
                });
            });
            rest = &rest[written..];
        }
    }

    /// Does all of it, or nothing.
    pub fn commit(mut self, socket: &Socket) -> Result<(), Errno> {
        self.netlink.message(BATCH_END, 0, &header(0, SUBSYSTEM), |_| {});
        socket.send(&self.netlink)
    }
}

/// `struct nfgenmsg`.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn write_element(item: &mut Attributes<'_>, element: &Element) {
    item.nest(ELEMENT_KEY, &[], |key| key.bytes(DATA_VALUE, &element.key));
    if !element.data.is_empty() {
        item.nest(ELEMENT_DATA, &[], |data| data.bytes(DATA_VALUE, &element.data));
    }
    if element.is_end {
        item.big(ELEMENT_FLAGS, ELEMENT_INTERVAL_END);
    }
}
