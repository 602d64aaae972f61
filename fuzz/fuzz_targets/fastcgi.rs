//! What a FastCGI worker sends: its records, and the CGI head in them.
#![no_main]

#[allow(dead_code, reason = "what is sent is not fuzzed")]
#[path = "../../hatchery/src/serve/fastcgi/head.rs"]
mod head;
#[allow(dead_code, reason = "what is sent is not fuzzed")]
#[path = "../../hatchery/src/serve/fastcgi/records.rs"]
mod records;

use records::{Record, Records};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (mut records, mut out) = (Records::default(), Vec::new());
    for piece in bytes.chunks(7) {
        records.buffer.extend_from_slice(piece);
        while let Ok(Some(record)) = records.next() {
            if let Record::Stdout(piece) = record {
                out.extend_from_slice(&piece);
            }
        }
    }
    for bytes in [bytes, &out] {
        if let Some(end) = head::end(bytes, &mut 0)
            && let Ok(head) = head::Head::parse(&bytes[..end])
        {
            let http = head.http(true);
            let mut headers = [httparse::EMPTY_HEADER; 4096];
            let parsed = httparse::Response::new(&mut headers).parse(&http);
            assert!(matches!(parsed, Ok(httparse::Status::Complete(length)) if length == http.len()), "{parsed:?}");
        }
    }
});
