//! The namespaces that a dispatcher works in.

/// One of its own, where Jobs run that name none, and others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespaces {
    pub own: String,
    pub further: Vec<String>,
}

impl Namespaces {
    /// Each once, its own first.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        let others = self.further.iter().enumerate();
        let others = others.filter(|(index, name)| **name != self.own && !self.further[..*index].contains(name));
        std::iter::once(self.own.as_str()).chain(others.map(|(_, name)| name.as_str()))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.all().any(|known| known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_there_once() {
        let further = ["b", "a", "b", "c"].map(str::to_owned).into();
        let namespaces = Namespaces { own: "a".into(), further };
        assert_eq!(namespaces.all().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(namespaces.contains("c") && !namespaces.contains("d"));
    }
}
