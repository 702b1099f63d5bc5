//! A message in frames made by hand: one that no client library would send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::broker::Broker;

/// (class, method), as AMQP 0-9-1 numbers them.
type Method = (u16, u16);

struct Peer {
    stream: TcpStream,
    read: Vec<u8>,
}

/// Publishes a request with the given bytes as its correlation id.
pub(crate) fn publish(broker: &Broker, correlation_id: &[u8]) {
    let stream = TcpStream::connect(broker.address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut peer = Peer { stream, read: Vec::new() };
    peer.stream.write_all(b"AMQP\x00\x00\x09\x01").expect("the protocol header");
    peer.expect((10, 10));
    peer.say(0, (10, 11), &[&long(b"")[..], &short(b"PLAIN"), &long(b"\0guest\0guest"), &short(b"en_US")]);
    peer.expect((10, 30));
    // 2047 channels, as the broker offers, frames of 128 KiB, no heartbeat.
    peer.say(0, (10, 31), &[&[0x07, 0xff, 0, 2, 0, 0, 0, 0]]);
    peer.say(0, (10, 40), &[&short(broker.vhost.as_bytes())[..], &short(b""), &[0]]);
    peer.expect((10, 41));
    peer.say(1, (20, 10), &[&short(b"")]);
    peer.expect((20, 11));
    peer.say(1, (60, 40), &[&[0, 0][..], &short(b""), &short(b"jobquay.requests"), &[0]]);
    let body = br#"{"template": "script", "params": {"script": "echo never"}}"#;
    // Delivery mode and correlation id are present: bits 12 and 10 of the flags.
    let flags = (1u16 << 12 | 1 << 10).to_be_bytes();
    let size = (body.len() as u64).to_be_bytes();
    peer.frame(2, 1, &[&60u16.to_be_bytes()[..], &[0, 0], &size, &flags, &[2], &short(correlation_id)].concat());
    peer.frame(3, 1, body);
    // The answer to the goodbye comes after everything before it was taken.
    peer.say(1, (20, 40), &[&200u16.to_be_bytes()[..], &short(b""), &[0, 0, 0, 0]]);
    peer.expect((20, 41));
}

impl Peer {
    fn say(&mut self, channel: u16, method: Method, arguments: &[&[u8]]) {
        let payload = [&method.0.to_be_bytes()[..], &method.1.to_be_bytes(), &arguments.concat()].concat();
        self.frame(1, channel, &payload);
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a frame fits");
        let frame = [&[kind][..], &channel.to_be_bytes(), &length.to_be_bytes(), payload, &[0xce]].concat();
        self.stream.write_all(&frame).expect("a frame is taken");
    }

    /// Reads frames until one holds `method`.
    fn expect(&mut self, method: Method) {
        let wanted = [method.0.to_be_bytes(), method.1.to_be_bytes()].concat();
        loop {
            while let Some(payload) = self.next_frame() {
                if payload.starts_with(&wanted) {
                    return;
                }
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).expect("the broker answers");
            assert!(count > 0, "the broker closed the connection instead of sending {method:?}");
            self.read.extend_from_slice(&buffer[..count]);
        }
    }

    fn next_frame(&mut self) -> Option<Vec<u8>> {
        let length = u32::from_be_bytes(self.read.get(3..7)?.try_into().expect("four bytes")) as usize;
        let whole = self.read.get(..length + 8)?.to_vec();
        self.read.drain(..length + 8);
        Some(whole[7..7 + length].to_vec())
    }
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("a short string")][..], text].concat()
}

fn long(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).expect("a long string").to_be_bytes()[..], text].concat()
}
