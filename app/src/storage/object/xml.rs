//! What S3 answers in XML, as flat records in the order they stand in: of versions and delete markers the order matters.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::Event;

/// An element that holds elements: its name, and the text of each of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Record {
    /// The element's name.
    pub name: String,
    fields: BTreeMap<String, String>,
}

impl Record {
    /// The text of the element of this name; empty if there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// The outermost element, and each that lies directly in it and holds others.
pub(super) fn parse(xml: &[u8]) -> Result<(Record, Vec<Record>), quick_xml::Error> {
    let mut reader = Reader::from_reader(xml);
    let (mut whole, mut records) = (Record::default(), Vec::new());
    let (mut open, mut text) = (Vec::<String>::new(), String::new());
    let mut current = Record::default();
    loop {
        match reader.read_event()? {
            Event::Start(start) => {
                open.push(start.local_name().as_ref().to_owned());
                text.clear();
            }
            Event::Text(piece) => text.push_str(&piece),
            Event::CData(piece) => text.push_str(&piece),
            Event::GeneralRef(entity) => push_entity(&mut text, &entity),
            Event::End(_) => {
                let name = open.pop().unwrap_or_default();
                match open.len() {
                    0 => whole.name = name,
                    1 if current.fields.is_empty() => {
                        whole.fields.insert(name, std::mem::take(&mut text));
                    }
                    1 => records.push(Record { name, ..std::mem::take(&mut current) }),
                    2 => {
                        current.fields.insert(name, std::mem::take(&mut text));
                    }
                    _ => text.clear(),
                }
            }
            Event::Eof => return Ok((whole, records)),
            _ => {}
        }
    }
}

fn push_entity(text: &mut String, entity: &str) {
    let number = entity.strip_prefix('#').and_then(|number| match number.strip_prefix(['x', 'X']) {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok(),
        None => number.parse().ok(),
    });
    match (entity, number.and_then(char::from_u32)) {
        (_, Some(character)) => text.push(character),
        ("lt", _) => text.push('<'),
        ("gt", _) => text.push('>'),
        ("amp", _) => text.push('&'),
        ("apos", _) => text.push('\''),
        ("quot", _) => text.push('"'),
        _ => text.push_str(&format!("&{entity};")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_order_and_their_odd_characters() {
        let xml = br#"<?xml version="1.0"?><R xmlns="x"><IsTruncated>true</IsTruncated><Empty/>
            <Version><Key>a&amp;b&#x3c;&#62;</Key><Size>3</Size><Owner><ID>me</ID></Owner></Version>
            <DeleteMarker><Key>a</Key></DeleteMarker><Version><Key>b</Key></Version></R>"#;
        let (whole, records) = parse(xml).unwrap();
        assert_eq!((whole.name.as_str(), whole.text("IsTruncated")), ("R", "true"));
        let names: Vec<_> = records.iter().map(|record| (record.name.as_str(), record.text("Key"))).collect();
        assert_eq!(names, [("Version", "a&b<>"), ("DeleteMarker", "a"), ("Version", "b")]);
        assert_eq!(records[0].text("Size"), "3");
        assert!(parse(b"<a><b>").is_ok_and(|(whole, _)| whole.name.is_empty()));
    }
}
