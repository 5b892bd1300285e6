//! LAVA decides who may see what: asked with the reader's own token, and never relied on for longer than a minute.
#![allow(clippy::unwrap_used)]

mod lab;

use std::path::PathBuf;
use std::time::Duration;

use lava_publisher::LavaConfig;
use lava_publisher::authority::{Authority, Credentials, Reader, Refused, Secret, Sight, Subject};
use lava_stand_in::{Device, Failure, Job, LavaServer, Options};
use lavabus_protocol::Kind;
use lavabus_protocol::event::JobId;

use crate::lab::{advance, available, worker};

/// A stand-in with `ada` and `bob`; `ada` has a private job.
struct Lab {
    lava: LavaServer,
    authority: Authority,
    public: Subject,
    private: Subject,
}

fn job(id: &str) -> Subject {
    Subject::Job(JobId::parse(id).unwrap())
}

fn user(user: &str, token: &str) -> Credentials {
    Credentials::User {
        user: user.to_owned(),
        token: Secret::new(token),
    }
}

fn authority_of(lava: &LavaServer) -> Authority {
    authority_with(lava, None)
}

fn authority_with(lava: &LavaServer, tokens: Option<PathBuf>) -> Authority {
    lab::authority(LavaConfig {
        administrators: vec!["root".to_owned()],
        tokens,
        ..lab::config(lava)
    })
}

fn fill(lava: &LavaServer) -> (Subject, Subject) {
    for name in ["ada", "bob", "root"] {
        lava.add_user(name, &format!("{name}-token"));
    }
    let public = lava.add_job(Job::default());
    let private = lava.add_job(Job {
        submitter: "ada".to_owned(),
        private: true,
        ..Job::default()
    });
    (job(&public), job(&private))
}

impl Lab {
    async fn start() -> Lab {
        let lava = LavaServer::start().await;
        let (public, private) = fill(&lava);
        Lab {
            authority: authority_of(&lava),
            public,
            private,
            lava,
        }
    }

    async fn reader(&self, credentials: Credentials) -> Reader {
        self.authority.authenticate(&credentials).await.unwrap()
    }

    async fn anonymous(&self) -> Reader {
        self.reader(Credentials::Anonymous).await
    }

    async fn ada(&self) -> Reader {
        self.reader(user("ada", "ada-token")).await
    }

    async fn bob(&self) -> Reader {
        self.reader(user("bob", "bob-token")).await
    }

    /// How often LAVA was asked for a path.
    fn asked(&self, path: &str) -> usize {
        let line = format!("GET /api/v0.2/{path}/");
        self.lava.requests().iter().filter(|request| **request == line).count()
    }
}

async fn pass(seconds: u64) {
    advance(Duration::from_secs(seconds)).await;
}

#[tokio::test]
async fn who_is_let_in() {
    let lab = Lab::start().await;
    let try_in = async |credentials| {
        let reader = lab.authority.authenticate(&credentials).await;
        reader.map(|reader| reader.name().map(str::to_owned))
    };
    assert_eq!(try_in(Credentials::Anonymous).await, Ok(None));
    assert_eq!(try_in(user("ada", "ada-token")).await, Ok(Some("ada".to_owned())));
    let token = |token: &str| Credentials::Token(Secret::new(token));
    assert_eq!(try_in(token("bob-token")).await, Ok(Some("bob".to_owned())));
    for wrong in [
        user("ada", "bob-token"),
        user("ada", "no-token"),
        user("", "ada-token"),
        user("Ada", "ada-token"),
        user("ada", ""),
        user("ada", "line\nfeed"),
        token("no-token"),
        token(""),
    ] {
        assert_eq!(try_in(wrong.clone()).await, Err(Refused::UnknownUser), "{wrong:?}");
    }
    let worker = worker("worker-01", "worker-token-0123456789");
    assert_eq!(try_in(worker).await, Err(Refused::UnknownWorker));
    assert!(lab.authority.is_available());
}

#[tokio::test]
async fn a_private_job_is_seen_by_its_owner_only() {
    let lab = Lab::start().await;
    lab.lava.add_device(Device {
        hostname: "secret-01".to_owned(),
        private: true,
        ..Device::default()
    });
    let (ada, bob, nobody) = (lab.ada().await, lab.bob().await, lab.anonymous().await);
    assert_eq!(ada.sight(&lab.private), Sight::Ask);
    assert_eq!(ada.ask(&lab.private).await, Sight::Shown);
    assert_eq!(ada.sight(&lab.private), Sight::Shown);
    for reader in [&bob, &nobody] {
        assert_eq!(reader.ask(&lab.private).await, Sight::Hidden);
        assert_eq!(reader.sight(&lab.private), Sight::Hidden);
    }
    // Of a public one the first reader's question serves all.
    assert_eq!(nobody.ask(&lab.public).await, Sight::Shown);
    for reader in [&ada, &bob, &nobody] {
        assert_eq!(reader.sight(&lab.public), Sight::Shown);
    }
    let secret = Subject::Device("secret-01".to_owned());
    for (subject, expected) in [
        (&secret, Sight::Hidden),
        (&Subject::Device("qemu-01".to_owned()), Sight::Shown),
        (&Subject::Worker("worker-01".to_owned()), Sight::Shown),
        (&Subject::Worker("no-worker".to_owned()), Sight::Hidden),
        (&Subject::Device("../jobs/1".to_owned()), Sight::Hidden),
        (&Subject::Device("x".repeat(5000)), Sight::Hidden),
        (&job("no-number"), Sight::Hidden),
        (&Subject::Unbound, Sight::Hidden),
    ] {
        assert_eq!(bob.ask(subject).await, expected, "{subject:?}");
        assert_eq!(nobody.ask(subject).await, expected, "{subject:?}");
    }
}

#[tokio::test]
async fn an_administrator_is_named_by_us_and_sees_all() {
    let lab = Lab::start().await;
    let root = lab.reader(user("root", "root-token")).await;
    let (ada, nobody) = (lab.ada().await, lab.anonymous().await);
    for subject in [&lab.private, &Subject::Unbound, &job("999")] {
        assert_eq!(root.sight(subject), Sight::Shown);
    }
    assert!(root.is_administrator() && !ada.is_administrator() && !nobody.is_administrator());
    assert!(root.may_emit(Kind::Stage) && !root.may_emit(Kind::Testjob));
    assert!(!ada.may_emit(Kind::Stage) && !nobody.may_emit(Kind::Stage));
}

#[tokio::test]
async fn a_job_made_private_is_hidden_within_a_minute() {
    let lab = Lab::start().await;
    let (bob, nobody) = (lab.bob().await, lab.anonymous().await);
    assert_eq!(nobody.ask(&lab.public).await, Sight::Shown);
    let Subject::Job(id) = &lab.public else { panic!("a job") };
    lab.lava.change_job(id.as_str(), |job| job.private = true);
    pass(44).await;
    assert_eq!(bob.sight(&lab.public), Sight::Shown);
    pass(1).await;
    assert_eq!(bob.sight(&lab.public), Sight::Ask);
    assert_eq!(bob.ask(&lab.public).await, Sight::Hidden);
    assert_eq!(nobody.sight(&lab.public), Sight::Hidden);
}

#[tokio::test]
async fn a_token_that_is_removed_ends_its_connections_within_a_minute() {
    let lab = Lab::start().await;
    let (ada, bob) = (lab.ada().await, lab.bob().await);
    assert_eq!(ada.ask(&lab.private).await, Sight::Shown);
    lab.lava.add_user("ada", "another-token");
    assert!(!ada.is_withdrawn());
    pass(31).await;
    let withdrawn = tokio::time::timeout(Duration::from_secs(10), ada.withdrawn()).await;
    assert!(withdrawn.is_ok());
    assert!(ada.is_withdrawn() && !bob.is_withdrawn());
    assert_eq!(ada.sight(&lab.private), Sight::Hidden);
    let again = lab.authority.authenticate(&user("ada", "ada-token")).await;
    assert_eq!(again.map(drop), Err(Refused::UnknownUser));
    let ada = lab.reader(user("ada", "another-token")).await;
    assert_eq!(ada.ask(&lab.private).await, Sight::Shown);
}

#[tokio::test]
async fn without_lava_nobody_is_let_in_and_after_a_minute_nothing_is_shown() {
    let lab = Lab::start().await;
    let (ada, root) = (lab.ada().await, lab.reader(user("root", "root-token")).await);
    assert_eq!(ada.ask(&lab.private).await, Sight::Shown);
    let port = lab.lava.address().port();
    let Lab {
        lava,
        authority,
        private,
        ..
    } = lab;
    drop(lava);
    pass(46).await;
    // It was shown less than a minute ago, and nobody has taken that back.
    assert_eq!(ada.ask(&private).await, Sight::Shown);
    assert!(root.is_administrator());
    available(&authority, false).await;
    for credentials in [Credentials::Anonymous, user("bob", "bob-token")] {
        let refused = authority.authenticate(&credentials).await.map(drop);
        assert_eq!(refused, Err(Refused::Unavailable));
    }
    pass(14).await;
    assert_eq!(ada.sight(&private), Sight::Hidden);
    assert_eq!(root.sight(&private), Sight::Hidden);
    assert!(!ada.is_withdrawn() && !root.is_administrator());

    let options = Options {
        port,
        ..Options::default()
    };
    let lava = LavaServer::start_with(options).await;
    fill(&lava);
    pass(10).await;
    available(&authority, true).await;
    assert_eq!(ada.ask(&private).await, Sight::Shown);
    while !root.is_administrator() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_handshake_meets_lava_going_down() {
    let lab = Lab::start().await;
    let nobody = lab.anonymous().await;
    lab.lava.fail(Failure::Status(502), "/", 1_000);
    assert!(lab.authority.is_available());
    let refused = lab.authority.authenticate(&user("ada", "ada-token")).await.map(drop);
    assert_eq!(refused, Err(Refused::Unavailable));
    // The failed question made it look, long before its time.
    let seen = async {
        while lab.authority.is_available() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), seen).await.is_ok());
    assert_eq!(nobody.ask(&lab.public).await, Sight::Hidden);
    lab.lava.heal();
    pass(10).await;
    available(&lab.authority, true).await;
    assert_eq!(nobody.ask(&lab.public).await, Sight::Shown);
}

#[tokio::test]
async fn a_job_that_lava_cannot_tell_of_hides_nothing_else() {
    let lab = Lab::start().await;
    let (ada, nobody) = (lab.ada().await, lab.anonymous().await);
    lab.lava.fail(Failure::Status(500), "/api/v0.2/jobs/77/", 1_000);
    assert_eq!(nobody.ask(&job("77")).await, Sight::Hidden);
    assert_eq!(ada.ask(&job("77")).await, Sight::Hidden);
    let asked = lab.asked("jobs/77");
    assert_eq!(ada.sight(&job("77")), Sight::Hidden);
    pass(1).await;
    assert_eq!(ada.ask(&lab.private).await, Sight::Shown);
    assert!(lab.authority.is_available());
    assert_eq!(lab.asked("jobs/77"), asked);
}

#[tokio::test]
async fn an_answer_that_a_job_is_not_there_does_not_stay() {
    let lab = Lab::start().await;
    let (ada, nobody) = (lab.ada().await, lab.anonymous().await);
    let new = job("50");
    assert_eq!(nobody.ask(&new).await, Sight::Hidden);
    assert_eq!(ada.ask(&new).await, Sight::Hidden);
    let asked = lab.asked("jobs/50");
    assert_eq!(ada.ask(&new).await, Sight::Hidden);
    assert_eq!(nobody.ask(&new).await, Sight::Hidden);
    assert_eq!(lab.asked("jobs/50"), asked, "asked again at once");
    lab.lava.add_job(Job {
        id: "50".to_owned(),
        ..Job::default()
    });
    pass(10).await;
    assert_eq!(ada.ask(&new).await, Sight::Shown);
    assert_eq!(nobody.sight(&new), Sight::Shown);
}

#[tokio::test]
async fn a_job_that_comes_a_moment_after_its_event_is_seen() {
    let lab = Lab::start().await;
    for (reader, private) in [(lab.anonymous().await, false), (lab.ada().await, true)] {
        let id = (lab.lava.jobs().len() + 1).to_string();
        let (new, path) = (job(&id), format!("jobs/{id}"));
        let commit = async {
            // The last one of the first questions.
            while lab.asked(&path) <= usize::from(private) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            lab.lava.add_job(Job {
                submitter: "ada".to_owned(),
                private,
                ..Job::default()
            });
        };
        // One that comes while the first waits for it is told the same.
        let late = async {
            while lab.asked(&path) <= usize::from(private) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            // The answer is there by then; it makes no difference if it is not.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let other = if private {
                lab.ada().await
            } else {
                lab.anonymous().await
            };
            other.ask(&new).await
        };
        let (seen, late, ()) = tokio::join!(reader.ask(&new), late, commit);
        assert_eq!((seen, late), (Sight::Shown, Sight::Shown));
    }
}

/// However long LAVA takes to say that it is not there yet.
#[tokio::test]
async fn a_slow_no_is_waited_behind_too() {
    let lab = Lab::start().await;
    let reader = lab.anonymous().await;
    let id = (lab.lava.jobs().len() + 1).to_string();
    let (new, path) = (job(&id), format!("jobs/{id}"));
    lab.lava.fail(
        Failure::Delay(Duration::from_millis(1_500)),
        &format!("/api/v0.2/{path}"),
        1,
    );
    let commit = async {
        while lab.asked(&path) < 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let (seen, ()) = tokio::join!(reader.ask(&new), async {
        tokio::time::timeout(Duration::from_secs(4), commit)
            .await
            .expect("a second question");
    });
    assert_eq!(seen, Sight::Hidden);
}

#[tokio::test]
async fn many_readers_ask_one_question() {
    let lab = Lab::start().await;
    let mut logins = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let authority = lab.authority.clone();
        logins.spawn(async move { authority.authenticate(&user("ada", "ada-token")).await.unwrap() });
    }
    let mut asking = tokio::task::JoinSet::new();
    for reader in logins.join_all().await {
        let private = lab.private.clone();
        asking.spawn(async move { reader.ask(&private).await });
    }
    for _ in 0..200 {
        let (reader, public) = (lab.anonymous().await, lab.public.clone());
        asking.spawn(async move { reader.ask(&public).await });
    }
    for seen in asking.join_all().await {
        assert_eq!(seen, Sight::Shown);
    }
    let [public, private] = [&lab.public, &lab.private].map(|subject| match subject {
        Subject::Job(id) => lab.asked(&format!("jobs/{id}")),
        _ => panic!("a job"),
    });
    assert_eq!(public, 1);
    // Once for everybody, once with the owner's token.
    assert_eq!(private, 2);
    // Once to see whether LAVA is there, once for the owner.
    assert_eq!(lab.asked("system/whoami"), 2);
}

#[tokio::test]
async fn one_request_after_the_other_asks_nothing_twice() {
    let lab = Lab::start().await;
    assert_eq!(lab.ada().await.ask(&lab.private).await, Sight::Shown);
    let asked = lab.lava.requests().len();
    pass(20).await;
    let ada = lab.ada().await;
    assert_eq!(ada.sight(&lab.private), Sight::Shown);
    // It may have looked whether LAVA is there.
    assert!(lab.lava.requests().len() <= asked + 1);
    assert_eq!(lab.asked("jobs/2"), 2);
}

#[tokio::test]
async fn what_is_public_needs_no_request_to_be_told_and_no_lava_to_begin() {
    let lab = Lab::start().await;
    lab.lava.fail(Failure::CloseBefore, "/", 1_000);
    available(&lab.authority, false).await;
    let public = lab.authority.public();
    assert_eq!(public.ask(&lab.public).await, Sight::Hidden);
    lab.lava.heal();
    available(&lab.authority, true).await;
    assert_eq!(public.ask(&lab.public).await, Sight::Shown);
    assert_eq!(public.ask(&lab.private).await, Sight::Hidden);
    assert_eq!((public.name(), public.is_administrator()), (None, false));
}

#[tokio::test]
async fn a_part_of_a_multinode_job_is_found_by_its_sub_id() {
    let lab = Lab::start().await;
    for (id, private) in [("70", false), ("71", true)] {
        lab.lava.add_job(Job {
            id: id.to_owned(),
            sub_id: Some(format!("{id}.0")),
            submitter: "ada".to_owned(),
            private,
            ..Job::default()
        });
    }
    let token = lab.reader(Credentials::Token(Secret::new("ada-token"))).await;
    let (ada, bob, nobody) = (lab.ada().await, lab.bob().await, lab.anonymous().await);
    for reader in [&nobody, &bob, &ada, &token] {
        assert_eq!(reader.ask(&job("70.0")).await, Sight::Shown);
        let is_hers = reader.name() == Some("ada");
        let expected = if is_hers { Sight::Shown } else { Sight::Hidden };
        assert_eq!(reader.ask(&job("71.0")).await, expected, "{:?}", reader.name());
    }
}

#[tokio::test]
async fn a_lava_that_hangs_counts_as_gone() {
    let lab = Lab::start().await;
    let (ada, bob) = (lab.ada().await, lab.bob().await);
    assert_eq!(ada.ask(&lab.private).await, Sight::Shown);
    lab.lava
        .fail(Failure::Delay(Duration::from_secs(600)), "/api/v0.2/", 1_000);
    let public = lab.public.clone();
    let asking = tokio::spawn(async move { (bob.ask(&public).await, bob) });
    let authority = lab.authority.clone();
    let coming = tokio::spawn(async move { authority.authenticate(&user("root", "root-token")).await.map(drop) });
    while lab.asked("jobs/1") == 0 || lab.asked("system/whoami") < 4 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    pass(6).await;
    available(&lab.authority, false).await;
    let (seen, bob) = asking.await.unwrap();
    assert_eq!(seen, Sight::Hidden);
    assert_eq!(coming.await.unwrap(), Err(Refused::Unavailable));
    // From now on nobody waits for it.
    let asked = lab.asked("jobs/2");
    assert_eq!(bob.sight(&lab.private), Sight::Hidden);
    assert_eq!(ada.sight(&lab.private), Sight::Shown);
    assert_eq!(lab.asked("jobs/2"), asked);
}

#[tokio::test]
async fn a_slow_answer_delays_only_who_waits_for_it() {
    let lab = Lab::start().await;
    let (ada, bob) = (lab.ada().await, lab.bob().await);
    let slow = job("60");
    lab.lava
        .fail(Failure::Delay(Duration::from_secs(60)), "/api/v0.2/jobs/60/", 1_000);
    let waiting = tokio::spawn(async move { ada.ask(&slow).await });
    while lab.asked("jobs/60") == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(bob.ask(&lab.public).await, Sight::Shown);
    assert!(!waiting.is_finished());
    // Its time is over.
    pass(6).await;
    assert_eq!(waiting.await.unwrap(), Sight::Hidden);
}

#[tokio::test]
async fn a_token_of_the_file_shows_what_everybody_may_see() {
    let lava = LavaServer::start().await;
    let (public, private) = fill(&lava);
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens.yaml");
    // The tokens are `one` and `two`.
    let entries = "\
- name: ci
  sha256: 7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed
  role: reader
  emit: [stage]
- name: boss
  sha256: 3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3
  role: administrator
";
    std::fs::write(&tokens, entries).unwrap();
    let authority = authority_with(&lava, Some(tokens));
    let token = |text: &str| Credentials::Token(Secret::new(text));
    let ci = authority.authenticate(&token("one")).await.unwrap();
    let boss = authority.authenticate(&token("two")).await.unwrap();
    assert_eq!(ci.ask(&public).await, Sight::Shown);
    assert_eq!(boss.ask(&public).await, Sight::Shown);
    for subject in [&private, &Subject::Unbound, &job("999")] {
        assert_eq!(ci.ask(subject).await, Sight::Hidden, "{subject:?}");
        assert_eq!(boss.ask(subject).await, Sight::Shown, "{subject:?}");
    }
    assert!(!ci.is_administrator() && boss.is_administrator());

    // Without LAVA it has nothing to read, and hands in all the same.
    lava.fail(Failure::CloseBefore, "/", 1_000);
    available(&authority, false).await;
    let refused = authority.authenticate(&token("one")).await.map(drop);
    assert_eq!(refused, Err(Refused::Unavailable));
    let ci = authority.authenticate_producer(&token("one")).await.unwrap();
    assert!(ci.may_emit(Kind::Stage));
    assert!(authority.authenticate(&token("two")).await.is_ok());
}

#[tokio::test]
async fn who_goes_away_leaves_no_questions_behind() {
    let lab = Lab::start().await;
    let nobody = lab.anonymous().await;
    lab.lava
        .fail(Failure::Delay(Duration::from_secs(1)), "/api/v0.2/jobs/", 16);
    let mut asking = tokio::task::JoinSet::new();
    for id in 1_000..1_200 {
        let nobody = nobody.clone();
        asking.spawn(async move { nobody.ask(&job(&id.to_string())).await });
    }
    let of_jobs = || {
        lab.lava
            .requests()
            .iter()
            .filter(|request| request.contains("/jobs/1"))
            .count()
    };
    // Of so many at a time.
    while of_jobs() < 16 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    asking.shutdown().await;
    // Whoever comes next waits for those that are under way, and for no others.
    assert_eq!(nobody.ask(&lab.public).await, Sight::Shown);
    assert_eq!(of_jobs(), 17);
}

#[tokio::test]
async fn guessed_tokens_are_refused_when_many_wait() {
    let lab = Lab::start().await;
    let (ada, root) = (lab.ada().await, lab.reader(user("root", "root-token")).await);
    let hang = Failure::Delay(Duration::from_secs(600));
    let before = lab.asked("system/whoami");
    lab.lava.fail(hang, "/api/v0.2/system/whoami/", 8);
    let guess = |number: usize| Credentials::Token(Secret::new(format!("guess-{number}")));
    let mut guessing = tokio::task::JoinSet::new();
    for number in 0..8 + 64 {
        let (authority, guess) = (lab.authority.clone(), guess(number));
        guessing.spawn(async move { authority.authenticate(&guess).await.map(drop) });
    }
    while lab.asked("system/whoami") < before + 8 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // At once.
    let refused = lab.authority.authenticate(&guess(999)).await.map(drop);
    assert_eq!(refused, Err(Refused::Unavailable));
    assert!(!guessing.is_empty() && guessing.try_join_next().is_none());
    // Those who are here already do not wait: what is asked with a token that is refused makes it ask whose it is.
    lab.lava.add_user("ada", "another-token");
    assert_eq!(ada.ask(&lab.private).await, Sight::Hidden);
    ada.withdrawn().await;
    assert!(guessing.try_join_next().is_none());
    assert!(root.is_administrator());
}
