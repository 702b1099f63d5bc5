//! The templates of a directory while it changes: of each file its last good version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Problem, Texts, load_template};
use crate::domain::template::{Template, TemplateDefaults};

/// What the files hold, and what of it is used.
#[derive(Debug, Default)]
pub struct Shelf {
    slots: BTreeMap<PathBuf, Slot>,
    /// Why the directory as a whole could not be read last.
    unreadable: Option<Problem>,
}

/// One file.
#[derive(Debug)]
struct Slot {
    text: Result<String, String>,
    used: Option<Arc<Template>>,
    /// What was used before a version that nobody has judged yet.
    before: Option<Arc<Template>>,
    /// What the API server has refused, which it may take another day.
    refused: Option<Arc<Template>>,
    judged: bool,
    problem: Option<String>,
}

/// What one look at the directory brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Files whose text is another one, or that are there for the first time.
    pub changed: Vec<PathBuf>,
    pub removed: Vec<PathBuf>,
    /// The directory cannot be read, and could before; what was there stays in use.
    pub unreadable: Option<Problem>,
}

impl Taken {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Shelf {
    /// Takes what lies in the directory `dir`.
    pub fn take(&mut self, dir: &Path, read: Result<Texts, String>, defaults: &TemplateDefaults) -> Taken {
        let texts = match read {
            Ok(texts) => texts,
            Err(reason) => {
                let problem = Problem { path: dir.to_owned(), reason };
                let known = self.unreadable.replace(problem.clone()) == Some(problem.clone());
                return Taken { unreadable: (!known).then_some(problem), ..Taken::default() };
            }
        };
        self.unreadable = None;
        let removed: Vec<_> = self.slots.keys().filter(|path| !texts.contains_key(*path)).cloned().collect();
        removed.iter().for_each(|path| drop(self.slots.remove(path)));
        let mut changed = Vec::new();
        for (path, text) in texts {
            if self.slots.get(&path).is_none_or(|slot| slot.text != text) {
                let slot = Slot::of(&path, text, self.slots.remove(&path), defaults);
                self.slots.insert(path.clone(), slot);
                changed.push(path);
            }
        }
        Taken { changed, removed, unreadable: None }
    }

    /// Templates that the API server has not been asked about.
    pub fn unjudged(&self) -> Vec<(PathBuf, Arc<Template>)> {
        let open = self.slots.iter().filter(|(_, slot)| !slot.judged);
        open.filter_map(|(path, slot)| Some((path.clone(), Arc::clone(slot.used.as_ref()?)))).collect()
    }

    /// Templates that the API server has refused: what stood against them may have gone.
    pub fn refused(&self) -> Vec<(PathBuf, Arc<Template>)> {
        self.slots.iter().filter_map(|(path, slot)| Some((path.clone(), Arc::clone(slot.refused.as_ref()?)))).collect()
    }

    /// The API server's verdict on what a file holds. A refused version makes room for the one before. `false` where it is
    /// the verdict of before.
    pub fn judge(&mut self, path: &Path, verdict: Result<(), String>) -> bool {
        let Some(slot) = self.slots.get_mut(path) else { return false };
        if slot.judged && slot.problem.as_ref() == verdict.as_ref().err() {
            return false;
        }
        slot.judged = true;
        let before = slot.before.take();
        match verdict {
            Ok(()) => {
                slot.used = slot.refused.take().or(slot.used.take());
                slot.problem = None;
            }
            Err(reason) => {
                if slot.refused.is_none() {
                    slot.refused = std::mem::replace(&mut slot.used, before);
                }
                slot.problem = Some(reason);
            }
        }
        true
    }

    /// What is used. Of two files with one name the first is.
    pub fn templates(&self) -> BTreeMap<String, Arc<Template>> {
        let mut templates = BTreeMap::new();
        for template in self.slots.values().filter_map(|slot| slot.used.as_ref()) {
            templates.entry(template.name.clone()).or_insert_with(|| Arc::clone(template));
        }
        templates
    }

    /// The files that are not used as they are.
    pub fn problems(&self) -> Vec<Problem> {
        let mut names = BTreeMap::new();
        let mut problems: Vec<_> = self.unreadable.iter().cloned().collect();
        for (path, slot) in &self.slots {
            let problem = |reason: String| Problem { path: path.clone(), reason };
            problems.extend(slot.problem.clone().map(problem));
            let Some(template) = &slot.used else { continue };
            if let Some(first) = names.insert(&template.name, path) {
                names.insert(&template.name, first);
                problems.push(problem(format!(
                    "name: the template `{}` is that of {} already",
                    template.name,
                    first.display()
                )));
            }
        }
        problems
    }

    /// The problem of one file.
    pub fn problem(&self, path: &Path) -> Option<Problem> {
        self.problems().into_iter().find(|problem| problem.path == path)
    }
}

impl Slot {
    fn of(path: &Path, text: Result<String, String>, old: Option<Self>, defaults: &TemplateDefaults) -> Self {
        // One that nobody has judged is not known to be good.
        let good = old.and_then(|old| if old.judged { old.used } else { old.before });
        match load_template(path, &text, defaults) {
            Ok(template) => {
                let used = Some(Arc::new(template));
                Self { text, used, before: good, refused: None, judged: false, problem: None }
            }
            Err(problem) => {
                Self { text, used: good, before: None, refused: None, judged: true, problem: Some(problem.reason) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::template::Limits;

    fn template(name: &str, image: &str) -> String {
        format!(
            "name: {name}\njob: {{apiVersion: batch/v1, kind: Job, spec: {{template: {{spec: {{containers: [{{name: w, image: {image}}}]}}}}}}}}\n"
        )
    }

    fn take(shelf: &mut Shelf, files: &[(&str, String)]) -> Taken {
        let texts = files.iter().map(|(path, text)| (PathBuf::from(path), Ok(text.clone()))).collect();
        let second = Duration::from_secs(1);
        let limits = Limits { start: second, image_pull: second, run: second };
        shelf.take(
            Path::new("dir"),
            Ok(texts),
            &TemplateDefaults { result_max: 1024, limits, namespaces: None, lanes: None },
        )
    }

    fn digest(shelf: &Shelf, name: &str) -> Option<String> {
        shelf.templates().get(name).map(|template| template.digest.clone())
    }

    fn judge_all(shelf: &mut Shelf) {
        for (path, _) in shelf.unjudged() {
            shelf.judge(&path, Ok(()));
        }
    }

    #[test]
    fn a_file_that_turns_bad_keeps_its_last_good_version_and_one_that_goes_takes_its_template_with_it() {
        let mut shelf = Shelf::default();
        let (a, b) = (("a.yaml", template("a", "i")), ("b.yaml", template("b", "i")));
        assert_eq!(take(&mut shelf, &[a.clone(), b.clone()]).changed.len(), 2);
        judge_all(&mut shelf);
        let first = digest(&shelf, "a");
        assert!(take(&mut shelf, &[a.clone(), b.clone()]).is_empty(), "nothing changed");

        let bad = ("a.yaml", template("a", "i").replace("image", "imgae"));
        assert_eq!(take(&mut shelf, &[bad.clone(), b.clone()]).changed, [PathBuf::from("a.yaml")]);
        assert_eq!(digest(&shelf, "a"), first);
        assert!(shelf.problem(Path::new("a.yaml")).unwrap().reason.contains("imgae"));
        assert!(take(&mut shelf, &[bad, b.clone()]).is_empty(), "said once");

        take(&mut shelf, &[("a.yaml", template("a", "i2")), b.clone()]);
        assert_ne!(digest(&shelf, "a"), first);
        assert_eq!(shelf.problems(), []);
        assert_eq!(take(&mut shelf, &[b]).removed, [PathBuf::from("a.yaml")]);
        assert_eq!((digest(&shelf, "a"), shelf.templates().len()), (None, 1));
    }

    #[test]
    fn a_version_that_the_api_server_refuses_makes_room_for_the_one_before() {
        let mut shelf = Shelf::default();
        let version = |image: &str| [("a.yaml", template("a", image))];
        take(&mut shelf, &version("good"));
        judge_all(&mut shelf);
        let good = digest(&shelf, "a");
        take(&mut shelf, &version("unjudged"));
        take(&mut shelf, &version("refused"));
        shelf.judge(Path::new("a.yaml"), Err("refused".into()));
        assert_eq!(digest(&shelf, "a"), good, "not the one that nobody has judged");
        assert_eq!((shelf.problems().len(), shelf.unjudged().len()), (1, 0));

        let mut empty = Shelf::default();
        take(&mut empty, &version("refused"));
        empty.judge(Path::new("a.yaml"), Err("refused".into()));
        assert_eq!(digest(&empty, "a"), None);
    }

    #[test]
    fn a_version_that_was_refused_is_used_once_it_is_accepted() {
        let mut shelf = Shelf::default();
        let version = |image: &str| [("a.yaml", template("a", image))];
        let path = Path::new("a.yaml");
        take(&mut shelf, &version("good"));
        judge_all(&mut shelf);
        let good = digest(&shelf, "a");
        take(&mut shelf, &version("refused"));
        let refused = digest(&shelf, "a");
        shelf.judge(path, Err("no".into()));
        shelf.judge(path, Err("still no".into()));
        assert_eq!((digest(&shelf, "a"), shelf.refused().len()), (good.clone(), 1));
        assert_eq!(shelf.problem(path).map(|problem| problem.reason).as_deref(), Some("still no"));
        shelf.judge(path, Ok(()));
        assert_eq!((digest(&shelf, "a"), shelf.refused().len()), (refused, 0));
        assert_eq!(shelf.problems(), []);

        take(&mut shelf, &version("refused too"));
        shelf.judge(path, Err("no".into()));
        take(&mut shelf, &version("good"));
        judge_all(&mut shelf);
        assert_eq!((digest(&shelf, "a"), shelf.refused().len()), (good, 0), "another text is another matter");
    }

    #[test]
    fn of_two_files_with_one_name_the_first_is_used_until_it_goes() {
        let mut shelf = Shelf::default();
        let (first, second) = (("a.yaml", template("a", "i")), ("b.yaml", template("a", "i2")));
        take(&mut shelf, &[first, second.clone()]);
        let used = digest(&shelf, "a");
        assert!(shelf.problem(Path::new("b.yaml")).unwrap().reason.contains("a.yaml"));
        take(&mut shelf, &[second]);
        assert_ne!(digest(&shelf, "a"), used);
        assert_eq!(shelf.problems(), []);
    }

    #[test]
    fn a_directory_that_cannot_be_read_changes_nothing_and_is_said_once() {
        let mut shelf = Shelf::default();
        take(&mut shelf, &[("a.yaml", template("a", "i"))]);
        let defaults = TemplateDefaults {
            result_max: 1,
            limits: Limits { start: Duration::ZERO, image_pull: Duration::ZERO, run: Duration::ZERO },
            lanes: None,
            namespaces: None,
        };
        let mut away = || shelf.take(Path::new("dir"), Err("away".into()), &defaults);
        assert!(away().unreadable.is_some());
        assert!(away().is_empty());
        assert_eq!((shelf.templates().len(), shelf.problems().len()), (1, 1));
    }
}
