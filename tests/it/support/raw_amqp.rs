//! A producer in frames made by hand: it sends what no client library would.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::broker::Broker;

/// (class, method), as AMQP 0-9-1 numbers them.
type Method = (u16, u16);

/// The properties that are short strings, by the bit that announces them.
const SHORT_STRINGS: [(&str, u8); 9] = [
    ("content_type", 15),
    ("content_encoding", 14),
    ("correlation_id", 10),
    ("reply_to", 9),
    ("expiration", 8),
    ("message_id", 7),
    ("type", 5),
    ("user_id", 4),
    ("app_id", 3),
];
const HEADERS: u8 = 13;
const DELIVERY_MODE: u8 = 12;
/// The payload of the largest frame that was agreed on: 128 KiB less the 8 bytes around it.
const FRAME: usize = (128 << 10) - 8;

/// What stands in a content header, as bytes.
#[derive(Debug, Clone)]
pub(crate) struct Properties {
    /// The higher bits come first.
    fields: BTreeMap<Reverse<u8>, Vec<u8>>,
}

impl Properties {
    pub(crate) fn persistent() -> Self {
        Self { fields: [(Reverse(DELIVERY_MODE), vec![2])].into() }
    }

    /// Sets a property that is a short string.
    pub(crate) fn set(&mut self, name: &str, value: &[u8]) {
        let (_, bit) = SHORT_STRINGS.iter().find(|(known, _)| *known == name).expect("a property that is text");
        self.fields.insert(Reverse(*bit), short(value));
    }

    /// Sets the header table to these pairs, see [`header`].
    pub(crate) fn set_headers(&mut self, pairs: &[u8]) {
        self.fields.insert(Reverse(HEADERS), long(pairs));
    }

    fn encoded(&self) -> Vec<u8> {
        let flags = self.fields.keys().fold(0u16, |flags, Reverse(bit)| flags | 1 << bit);
        [&flags.to_be_bytes()[..], &self.fields.values().flatten().copied().collect::<Vec<_>>()].concat()
    }
}

/// One pair of a header table: its name, the letter of its type, its encoded value.
pub(crate) fn header(name: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
    [&short(name)[..], &[kind], value].concat()
}

pub(crate) fn long(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).expect("a long string").to_be_bytes()[..], text].concat()
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("a short string")][..], text].concat()
}

/// A connection with one channel in confirm mode.
pub(crate) struct Peer {
    stream: TcpStream,
    read: Vec<u8>,
    published: u64,
    unconfirmed: BTreeSet<u64>,
}

impl Peer {
    pub(crate) fn open(broker: &Broker) -> Self {
        let stream = TcpStream::connect(broker.address()).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let mut peer = Self { stream, read: Vec::new(), published: 0, unconfirmed: BTreeSet::new() };
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
        peer.say(1, (85, 10), &[&[0]]);
        peer.expect((85, 11));
        peer
    }

    /// Publishes to the request queue.
    pub(crate) fn publish(&mut self, properties: &Properties, body: &[u8]) {
        self.say(1, (60, 40), &[&[0, 0][..], &short(b""), &short(b"jobquay.requests"), &[0]]);
        let size = (body.len() as u64).to_be_bytes();
        self.frame(2, 1, &[&60u16.to_be_bytes()[..], &[0, 0], &size, &properties.encoded()].concat());
        body.chunks(FRAME).for_each(|part| self.frame(3, 1, part));
        self.published += 1;
        self.unconfirmed.insert(self.published);
    }

    /// Publishes what the broker does not take; returns why it has closed the channel, and with it this peer.
    pub(crate) fn refused(mut self, properties: &Properties, body: &[u8]) -> String {
        self.publish(properties, body);
        // The method, a code, and the reason as a short string.
        String::from_utf8_lossy(&self.expect((20, 40))[7..]).into_owned()
    }

    /// Waits until the broker has everything, and says goodbye: a channel that closes earlier takes
    /// along what its queue has not taken yet.
    pub(crate) fn close(mut self) {
        while !self.unconfirmed.is_empty() {
            let ack = self.expect((60, 80));
            let tag = u64::from_be_bytes(ack[4..12].try_into().expect("eight bytes"));
            if ack[12] & 1 == 1 {
                self.unconfirmed.retain(|unconfirmed| *unconfirmed > tag);
            } else {
                self.unconfirmed.remove(&tag);
            }
        }
        self.say(1, (20, 40), &[&200u16.to_be_bytes()[..], &short(b""), &[0, 0, 0, 0]]);
        self.expect((20, 41));
    }

    fn say(&mut self, channel: u16, method: Method, arguments: &[&[u8]]) {
        let payload = [&method.0.to_be_bytes()[..], &method.1.to_be_bytes(), &arguments.concat()].concat();
        self.frame(1, channel, &payload);
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a frame fits");
        let frame = [&[kind][..], &channel.to_be_bytes(), &length.to_be_bytes(), payload, &[0xce]].concat();
        self.stream.write_all(&frame).expect("a frame is taken");
    }

    /// Reads frames until one holds `method`; returns its payload.
    fn expect(&mut self, method: Method) -> Vec<u8> {
        let wanted = [method.0.to_be_bytes(), method.1.to_be_bytes()].concat();
        loop {
            while let Some(payload) = self.next_frame() {
                if payload.starts_with(&wanted) {
                    return payload;
                }
                let closes = [[0, 10, 0, 50], [0, 20, 0, 40]].iter().any(|close| payload.starts_with(close));
                assert!(!closes, "the broker closes: {}", String::from_utf8_lossy(&payload));
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
