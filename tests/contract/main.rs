//! What the protos promise, over both transports.
