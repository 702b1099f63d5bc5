use serde_json::json;

use super::*;

fn seen(uid: &str, ended: bool) -> Sighted {
    let kind = if ended { "Complete" } else { "Suspended" };
    Sighted::Open(Box::new(
        serde_json::from_value(json!({
            "metadata": {"name": uid, "uid": uid, "namespace": "work", "labels": {"jobquay.dev/shard": "3"},
                         "annotations": {"jobquay.dev/result": r#"{"source":"stdout","max":1}"#}},
            "status": {"ready": 1, "conditions": [{"type": kind, "status": "True"}]},
        }))
        .unwrap(),
    ))
}

async fn task() -> Id {
    let task = tokio::spawn(async {});
    let id = task.id();
    task.await.unwrap();
    id
}

#[tokio::test]
async fn a_job_is_due_once_where_its_shard_is_owned_and_again_when_it_was_left_undone() {
    let (ours, theirs) = (Duty::of(1), Duty::none());
    let mut list = Worklist::default();
    assert!(matches!(list.see(seen("u", true), &theirs), News::Ended(uid, Some(_)) if uid == "u"));
    assert!(list.due("u", &theirs).is_none() && list.all_due(&theirs).is_empty());
    assert_eq!(list.all_due(&ours), ["u"], "its shard has come here, and it was remembered");
    let first = task().await;
    list.begun("u", first);
    assert!(list.due("u", &ours).is_none(), "a task is at it");
    assert_eq!(list.finished(first, Over::Left(HashSet::new())).as_deref(), Some("u"));
    assert!(list.due("u", &ours).is_some());
    let second = task().await;
    list.begun("u", second);
    list.finished(second, Over::Done);
    assert!(list.due("u", &ours).is_none());
    assert!(matches!(list.see(seen("u", true), &ours), News::None), "the event was late");
    assert!(list.due("u", &ours).is_none() && list.open() == 1);
}

#[tokio::test]
async fn a_job_that_was_left_undone_here_is_taken_up_again_when_it_is_seen() {
    let (ours, mut list) = (Duty::of(1), Worklist::default());
    list.see(seen("u", true), &ours);
    let task = task().await;
    list.begun("u", task);
    list.finished(task, Over::Undone);
    assert!(matches!(list.see(seen("u", true), &ours), News::Ended(..)));
    assert!(list.due("u", &ours).is_some());
}

#[tokio::test]
async fn whom_a_completion_has_told_is_known_when_its_shard_comes_back_and_goes_with_its_job() {
    let (ours, mut list) = (Duty::of(1), Worklist::default());
    let told = || HashSet::from([("w".to_owned(), jiff::Timestamp::UNIX_EPOCH)]);
    let left = async |list: &mut Worklist| {
        let task = task().await;
        list.begun("u", task);
        list.finished(task, Over::Left(told()));
    };
    list.see(seen("u", true), &ours);
    left(&mut list).await;
    assert_eq!((list.take_told("u"), list.take_told("u")), (told(), HashSet::new()));
    // A list that still shows it changes nothing, and one that does not is the end of it.
    left(&mut list).await;
    list.see(Sighted::Relisting { namespace: "work".into() }, &ours);
    list.see(seen("u", true), &ours);
    list.see(Sighted::Listed { namespace: "work".into(), all: true }, &ours);
    assert_eq!(list.take_told("u"), told());
    list.see(Sighted::Relisting { namespace: "work".into() }, &ours);
    left(&mut list).await;
    list.see(Sighted::Listed { namespace: "work".into(), all: true }, &ours);
    assert!(list.told.is_empty());
    list.see(seen("u", true), &ours);
    left(&mut list).await;
    list.see(Sighted::Closed { uid: "u".into() }, &ours);
    assert!(list.told.is_empty());
    left(&mut list).await;
    assert!(list.told.is_empty(), "it is gone");
}

#[test]
fn what_a_list_shows_is_looked_at_again() {
    let (ours, mut list) = (Duty::of(1), Worklist::default());
    list.see(Sighted::Relisting { namespace: "work".into() }, &ours);
    assert!(matches!(list.see(seen("u", true), &ours), News::Ended(_, None)));
    list.see(Sighted::Listed { namespace: "work".into(), all: true }, &ours);
    assert!(matches!(list.see(seen("u", true), &ours), News::Ended(_, Some(_))));
}

#[test]
fn only_so_many_answered_jobs_are_remembered() {
    let mut answered = Answered::default();
    (0..=REMEMBERED).for_each(|number| answered.remember(number.to_string()));
    assert_eq!((answered.uids.len(), answered.order.len()), (REMEMBERED, REMEMBERED));
    assert!(!answered.uids.contains("0") && answered.uids.contains("1"));
}

#[test]
fn a_start_is_told_once_and_by_the_owner_alone() {
    let mut list = Worklist::default();
    assert!(matches!(list.see(seen("u", false), &Duty::none()), News::None));
    assert!(matches!(list.see(seen("u", false), &Duty::of(1)), News::Started(_)));
    assert!(matches!(list.see(seen("u", false), &Duty::of(1)), News::None));
    assert!(list.is_started("u"));
}

#[test]
fn what_a_list_lacks_is_not_due_any_more() {
    let mut list = Worklist::default();
    list.see(seen("gone", true), &Duty::of(1));
    list.see(Sighted::Relisting { namespace: "work".into() }, &Duty::of(1));
    list.see(seen("there", true), &Duty::of(1));
    assert_eq!((list.all_due(&Duty::of(1)), list.open()), (vec!["there".to_owned()], 1));
    list.see(Sighted::Closed { uid: "there".into() }, &Duty::of(1));
    assert!(list.all_due(&Duty::of(1)).is_empty());
}

#[tokio::test]
async fn a_result_is_read_early_once_and_by_the_owner_and_goes_with_its_job() {
    let (ours, mut list) = (Duty::of(1), Worklist::default());
    let sighting = |uid: &str| Sighting { namespace: "work".into(), name: uid.into(), uid: uid.into(), shard: 3 };
    let read = || ReadEarly::of(b"made");
    list.see(seen("u", false), &ours);
    assert!(list.begin_reading(&sighting("another"), &ours).is_none(), "nothing is known of its Job");
    assert!(list.begin_reading(&sighting("u"), &Duty::none()).is_none());
    let (_, reader) = list.begin_reading(&sighting("u"), &ours).expect("its result is awaited");
    assert!(list.begin_reading(&sighting("u"), &ours).is_none(), "it is under way");
    // Its completion may begin before it is there.
    let reading = list.take_reading("u").expect("it is under way");
    assert!(reader.send(read()).is_ok());
    assert!(reading.await.is_ok());
    assert!(list.begin_reading(&sighting("u"), &ours).is_none(), "it is done");
    assert!(list.take_reading("u").is_none(), "it was taken");
    list.see(seen("gone", false), &ours);
    let (_, reader) = list.begin_reading(&sighting("gone"), &ours).expect("its result is awaited");
    list.see(Sighted::Closed { uid: "gone".into() }, &ours);
    assert!(reader.send(read()).is_err(), "nobody waits for it");
    assert!(list.take_reading("gone").is_none());
}

#[test]
fn nothing_is_read_early_of_a_job_whose_completion_has_begun_or_whose_result_is_no_pods() {
    let (ours, mut list) = (Duty::of(1), Worklist::default());
    let Sighted::Open(mut job) = seen("none", false) else { unreachable!("it is an open one") };
    job.metadata
        .annotations
        .as_mut()
        .unwrap()
        .insert("jobquay.dev/result".into(), r#"{"source":"none","max":1}"#.into());
    list.see(Sighted::Open(job), &ours);
    list.see(seen("begun", false), &ours);
    assert!(list.take_reading("begun").is_none());
    for uid in ["none", "begun"] {
        let job = Sighting { namespace: "work".into(), name: uid.into(), uid: uid.into(), shard: 3 };
        assert!(list.begin_reading(&job, &ours).is_none(), "{uid}");
    }
}

#[test]
fn a_look_over_that_comes_late_leaves_nothing_of_other_members_behind() {
    let (ours, theirs, mut list) = (Duty::of(1), Duty::none(), Worklist::default());
    let Sighted::Open(job) = seen("u", true) else { unreachable!() };
    let looked_over = || vec![Sighting::of(&job).unwrap()];
    list.see(seen("u", true), &theirs);
    list.see(Sighted::Closed { uid: "u".into() }, &theirs);
    list.found(looked_over(), &theirs);
    assert!(list.ended.is_empty());
    list.found(looked_over(), &ours);
    assert_eq!(list.all_due(&ours), ["u"], "the watch may have missed it");
}
