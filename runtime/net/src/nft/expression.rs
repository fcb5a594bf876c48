//! What rules are made of: small instructions over registers. A rule ends where one of them does not hold.
//! Numbers are those of include/uapi/linux/netfilter/nf_tables.h; `R1` to `R4` hold 16 bytes each, from number 1 on.

use crate::{netlink::Attributes, prefix::Family};

const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// A register: 1 to 4 are 16 bytes each, 8 to 23 are their parts of 4 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u32);

impl Register {
    /// A part of 4 bytes: number 0 is the start of `R1`, number 4 that of `R2`.
    pub const fn word(number: u32) -> Self {
        Self(8 + number)
    }
}

/// The first register of 16 bytes.
pub const R1: Register = Register(1);
/// The second register of 16 bytes.
pub const R2: Register = Register(2);

/// What is known of a packet beside its bytes: `enum nft_meta_keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// Name of the interface that it came by.
    InInterface = 6,
    /// Name of the interface that it goes by.
    OutInterface = 7,
    /// IPv4 or IPv6.
    Family = 15,
    /// Number of its transport protocol.
    Protocol = 16,
}

/// What is known of its connection: `enum nft_ct_keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// Bits of `ct state`.
    State = 0,
    /// Bits of `enum ip_conntrack_status`.
    Status = 2,
}

/// `ct state established,related`: NF_CT_STATE_BIT of include/uapi/linux/netfilter/nf_conntrack_common.h.
pub const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// `ct status dnat`: IPS_DST_NAT.
pub const TRANSLATED: u32 = 1 << 5;

/// A part of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Source address.
    Source(Family),
    /// Destination address.
    Destination(Family),
    /// Source port, of protocols that have ports.
    SourcePort,
    /// Destination port, of protocols that have ports.
    DestinationPort,
}

impl Payload {
    /// Header (1: network, 2: transport), first byte, bytes.
    fn place(self) -> (u32, u32, u32) {
        match self {
            Self::Source(Family::V4) => (1, 12, 4),
            Self::Source(Family::V6) => (1, 8, 16),
            Self::Destination(Family::V4) => (1, 16, 4),
            Self::Destination(Family::V6) => (1, 24, 16),
            Self::SourcePort => (2, 0, 2),
            Self::DestinationPort => (2, 2, 2),
        }
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This chain lets it pass.
    Accept,
    /// It is gone.
    Drop,
    /// Another chain decides, and this one goes on if it does not.
    Jump(&'static str),
}

impl Verdict {
    /// NF_ACCEPT, for the policy of a chain.
    pub const ACCEPT: u32 = 1;
}

/// Whether something holds, or its opposite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// It holds.
    So,
    /// It does not.
    Not,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Loads what is known of the packet.
    Meta(Meta, Register),
    /// Loads what is known of the connection.
    Connection(Connection, Register),
    /// Loads a part of the packet.
    Payload(Payload, Register),
    /// Compares with bytes.
    Compare(Register, Is, Vec<u8>),
    /// Keeps some bits of a number in the order of this machine.
    And(Register, u32),
    /// Is it in a set?
    In(&'static str, Register, Is),
    /// Is it a key of a map? Loads what it leads to.
    Map(&'static str, Register, Register),
    /// Loads what the destination address is to this host: `LOCAL`, or something else.
    DestinationKind(Register),
    /// Loads bytes.
    Value(Register, Vec<u8>),
    /// Loads whether the packet belongs to a socket that has the address of somebody else: one byte.
    IsTransparent(Register),
    /// Writes a register into the packet's mark.
    Mark(Register),
    /// Writes a register into a part of the transport header, whose checksum is at this byte.
    Write(Payload, Register, u32),
    /// Decides.
    Verdict(Verdict),
    /// Gives it the address of the interface that it goes by.
    Masquerade,
    /// Gives it another destination: an address of a version of the protocol, and a port.
    Redirect(Family, Register, Register),
}

/// RTN_LOCAL of include/uapi/linux/rtnetlink.h: the address is one of the host's.
const LOCAL: u32 = 2;

/// NFPROTO_IPV4 and NFPROTO_IPV6.
fn number_of(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

impl Expression {
    /// Holds for packets of a version of the protocol.
    pub fn family(family: Family) -> [Self; 2] {
        [Self::Meta(Meta::Family, R1), Self::Compare(R1, Is::So, vec![number_of(family)])]
    }

    /// Holds for packets to an address of this host.
    pub fn to_this_host() -> [Self; 2] {
        [Self::DestinationKind(R1), Self::Compare(R1, Is::So, LOCAL.to_ne_bytes().to_vec())]
    }

    /// Holds for packets from or to 127.0.0.0/8, whose version is known to be IPv4.
    pub fn loopback(part: Payload) -> [Self; 3] {
        let mask = u32::from_ne_bytes([255, 0, 0, 0]);
        [Self::Payload(part, R1), Self::And(R1, mask), Self::Compare(R1, Is::So, vec![127, 0, 0, 0])]
    }

    /// Holds for connections with one of these bits.
    pub fn connection(key: Connection, bits: u32) -> [Self; 3] {
        [Self::Connection(key, R1), Self::And(R1, bits), Self::Compare(R1, Is::Not, vec![0; 4])]
    }

    /// Holds for interfaces in a set.
    pub fn interface(key: Meta, set: &'static str, is: Is) -> [Self; 2] {
        [Self::Meta(key, R1), Self::In(set, R1, is)]
    }

    /// Writes it as an element of a rule.
    pub(super) fn write(&self, item: &mut Attributes<'_>) {
        item.text(EXPRESSION_NAME, self.name());
        item.nest(EXPRESSION_DATA, &[], |data| self.fill(data));
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta(..) | Self::Mark(_) => "meta",
            Self::IsTransparent(_) => "socket",
            Self::Connection(..) => "ct",
            Self::Payload(..) | Self::Write(..) => "payload",
            Self::Compare(..) => "cmp",
            Self::And(..) => "bitwise",
            Self::In(..) | Self::Map(..) => "lookup",
            Self::DestinationKind(_) => "fib",
            Self::Verdict(..) | Self::Value(..) => "immediate",
            Self::Masquerade => "masq",
            Self::Redirect(..) => "nat",
        }
    }

    fn fill(&self, data: &mut Attributes<'_>) {
        match self {
            // NFTA_META_DREG, NFTA_META_KEY
            Self::Meta(key, to) => numbers(data, &[(1, to.0), (2, *key as u32)]),
            // NFTA_META_KEY (NFT_META_MARK), SREG
            Self::Mark(from) => numbers(data, &[(2, 3), (3, from.0)]),
            // NFTA_SOCKET_KEY (NFT_SOCKET_TRANSPARENT), DREG
            Self::IsTransparent(to) => numbers(data, &[(1, 0), (2, to.0)]),
            // NFTA_CT_DREG, NFTA_CT_KEY
            Self::Connection(key, to) => numbers(data, &[(1, to.0), (2, *key as u32)]),
            // NFTA_PAYLOAD_DREG, BASE, OFFSET, LEN
            Self::Payload(part, to) => {
                let (base, offset, length) = part.place();
                numbers(data, &[(1, to.0), (2, base), (3, offset), (4, length)]);
            }
            // NFTA_CMP_SREG, OP (NFT_CMP_EQ, NFT_CMP_NEQ), DATA
            Self::Compare(from, is, bytes) => {
                numbers(data, &[(1, from.0), (2, u32::from(*is == Is::Not))]);
                data.nest(3, &[], |value| value.bytes(DATA_VALUE, bytes));
            }
            // NFTA_BITWISE_SREG, DREG, LEN, MASK, XOR
            Self::And(register, bits) => {
                numbers(data, &[(1, register.0), (2, register.0), (3, 4)]);
                data.nest(4, &[], |value| value.bytes(DATA_VALUE, &bits.to_ne_bytes()));
                data.nest(5, &[], |value| value.bytes(DATA_VALUE, &[0; 4]));
            }
            // NFTA_LOOKUP_SET, SREG, DREG, FLAGS (NFT_LOOKUP_F_INV)
            Self::In(set, from, is) => {
                data.text(1, set);
                numbers(data, &[(2, from.0), (5, u32::from(*is == Is::Not))]);
            }
            // NFTA_LOOKUP_SET, SREG, DREG
            Self::Map(map, from, to) => {
                data.text(1, map);
                numbers(data, &[(2, from.0), (3, to.0)]);
            }
            // NFTA_FIB_DREG, RESULT (NFT_FIB_RESULT_ADDRTYPE), FLAGS (NFTA_FIB_F_DADDR)
            Self::DestinationKind(to) => numbers(data, &[(1, to.0), (2, 3), (3, 2)]),
            // NFTA_IMMEDIATE_DREG, DATA
            Self::Value(to, bytes) => {
                numbers(data, &[(1, to.0)]);
                data.nest(2, &[], |value| value.bytes(DATA_VALUE, bytes));
            }
            // NFTA_PAYLOAD_BASE, OFFSET, LEN, SREG, CSUM_TYPE (NFT_PAYLOAD_CSUM_INET), CSUM_OFFSET
            Self::Write(part, from, checksum) => {
                let (base, offset, length) = part.place();
                numbers(data, &[(2, base), (3, offset), (4, length), (5, from.0), (6, 1), (7, *checksum)]);
            }
            // NFTA_IMMEDIATE_DREG (NFT_REG_VERDICT), DATA
            Self::Verdict(verdict) => {
                numbers(data, &[(1, 0)]);
                data.nest(2, &[], |value| value.nest(DATA_VERDICT, &[], |inner| fill_verdict(inner, verdict)));
            }
            Self::Masquerade => {}
            // NFTA_NAT_TYPE (NFT_NAT_DNAT), FAMILY, REG_ADDR_MIN, REG_PROTO_MIN
            Self::Redirect(family, address, port) => {
                numbers(data, &[(1, 1), (2, u32::from(number_of(*family))), (3, address.0), (5, port.0)]);
            }
        }
    }
}

fn numbers(data: &mut Attributes<'_>, pairs: &[(u16, u32)]) {
    pairs.iter().for_each(|(kind, value)| data.big(*kind, *value));
}

fn fill_verdict(data: &mut Attributes<'_>, verdict: &Verdict) {
    match verdict {
        Verdict::Drop => data.big(VERDICT_CODE, 0),
        Verdict::Accept => data.big(VERDICT_CODE, Verdict::ACCEPT),
        Verdict::Jump(chain) => {
            // NFT_JUMP is -3.
            data.bytes(VERDICT_CODE, &(-3_i32).to_be_bytes());
            data.text(VERDICT_CHAIN, chain);
        }
    }
}
