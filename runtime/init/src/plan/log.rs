//! Where the output of a process is kept, and who else is sent it.

use crate::codec::{choice, records};
use std::path::PathBuf;

records! {
    /// A log in Docker's json-file format.
    pub struct Log {
        /// The current file; older ones are `<path>.1`, `<path>.2` ...
        pub path: PathBuf,
        /// Size at which a file is rotated; 0: never.
        pub max_size: u64,
        /// Number of files kept, the current one included; at least 1.
        pub max_files: u32,
        /// JSON object that is every entry's `attrs`; empty: they have none.
        pub attributes: String,
        /// Whether somebody compresses older files, to `<path>.N.gz`, and is told when there is one more.
        pub is_compressed: bool,
    }

    /// Who is sent each line of output. The container does not wait for it.
    pub struct LogReceiver {
        /// What people call it: `journald`, `syslog`.
        pub name: String,
        /// Where it listens.
        pub address: ReceiverAddress,
        /// What it is sent.
        pub form: MessageForm,
        /// The most bytes that wait for it. What does not fit is dropped and counted.
        pub max_queued_bytes: u64,
        /// Whether the container waits after all, while it is slow but takes something within a second.
        pub waits: bool,
    }
}

choice! {
    /// Where a receiver of log lines listens.
    pub enum ReceiverAddress {
        /// A Unix socket of datagrams.
        0 = Datagrams {
            /// Its path on the host.
            path: PathBuf,
        },
        /// A Unix socket of streams.
        1 = Stream {
            /// Its path on the host.
            path: PathBuf,
        },
        /// A port of UDP.
        2 = Udp {
            /// Address and port: `192.0.2.1:514`, `[2001:db8::1]:514`.
            address: String,
        },
        /// A port of TCP.
        3 = Tcp {
            /// Address and port.
            address: String,
        },
    }
}

choice! {
    /// What a receiver is sent of a line.
    pub enum MessageForm {
        /// Fields of journald's own protocol.
        0 = Journal {
            /// Those that all messages share, encoded.
            fields: Vec<u8>,
        },
        /// A message of syslog.
        1 = Syslog {
            /// Number of the facility, 0 to 23.
            facility: u8,
            /// Its layout.
            layout: SyslogLayout,
            /// Name of the host.
            host: String,
            /// Name of the program.
            tag: String,
            /// How far the host's clock is ahead of UTC, for layouts that say no time zone.
            offset_seconds: i32,
        },
    }
}

choice! {
    /// Layouts of syslog's messages.
    pub enum SyslogLayout {
        /// As syslog(3) writes to its own host: without a name of it.
        0 = Unix,
        /// RFC 3164.
        1 = Rfc3164,
        /// RFC 5424, times in seconds.
        2 = Rfc5424,
        /// RFC 5424, times in microseconds.
        3 = Rfc5424Micro,
    }
}
