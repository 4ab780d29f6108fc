//! Kubernetes objects as text: documents of YAML, or JSON.

use crate::yaml;

/// Returns the objects of a file, in order; documents are separated by lines of `---`.
///
/// # Errors
///
/// The first problem, with the document's number and the field, in words.
pub fn objects(text: &str) -> Result<Vec<serde_json::Value>, String> {
    let mut objects = Vec::new();
    for (number, document) in (1..).zip(documents(text)) {
        let (node, faults) = yaml::read(&document);
        if let Some(fault) = faults.first() {
            return Err(format!("document {number}: {} ({})", fault.message, fault.path));
        }
        objects.extend(node.map(|node| node.to_json()).filter(|object| !object.is_null()));
    }
    Ok(objects)
}

fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            documents.push(String::new());
        } else if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents.retain(|document| !document.trim().is_empty());
    documents
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_document_is_an_object() {
        let text = "---\nkind: A\nport: 80\n---\n\n---\n{\"kind\": \"B\", \"on\": \"yes\"}\n";
        assert_eq!(
            objects(text),
            Ok(vec![json!({"kind": "A", "port": 80}), json!({"kind": "B", "on": "yes"})])
        );
        assert!(objects("a: [").unwrap_err().starts_with("document 1: "));
    }
}
