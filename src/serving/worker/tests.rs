//! A worker driven by hand: each turn runs on the test's own thread.

use super::*;
use crate::config::{self, Command, Resources};
use crate::error::{Code, RequestError};
use crate::job::{PendingReply, RequestBody};
use crate::lanes::admission::Admitted;
use crate::lanes::memory_budget::Charge;
use crate::lanes::queue::{Lane, lane};
use crate::lifecycle::Waker;
use crate::models::format;
use crate::platform::clock;
use crate::platform::fault::NoFaults;
use crate::protocol::{self, BodyHead, Spoken};
use crate::vitals::{Cost, Reservation};

/// A server's context with the embedded model, and its prediction lane.
fn context() -> (Arc<Context>, Lane<Job>, Intake<Job>) {
    let Ok(Command::Serve(serve)) = config::parse(["lanekeeper".into()]) else {
        panic!("plain lanekeeper serves");
    };
    let resources = Resources {
        cpus: 1,
        cpu_quota: None,
        memory_bytes_max: None,
    };
    let config = serve.validate(resources).unwrap();
    let (context, _) = Context::new(config, Arc::new(NoFaults), Waker::idle());
    context.registry.default_deployment().slot.put(Arc::new(
        format::load(&crate::config::ModelRequest::default()).unwrap(),
    ));
    let (lane, intake) = lane(LaneKind::Predict, &context.vitals);
    (context, lane, intake)
}

/// An admitted prediction of so many rows with this cost.
fn prediction(context: &Context, rows: usize, cost: Cost) -> (Job, PendingReply) {
    let instances = vec![[5.1, 3.5, 1.4, 0.2]; rows];
    let bytes = serde_json::json!({ "instances": instances }).to_string();
    let mut charge = Charge::new(&context.budget);
    charge.grow(bytes.len()).unwrap();
    let body = RequestBody {
        bytes: bytes.into_bytes(),
        charge,
    };
    let (dialect, _) = protocol::find("/predict").unwrap();
    let spoken = Spoken {
        head: BodyHead::default(),
        dialect,
    };
    let arrived = clock::instant();
    let admitted = Admitted {
        reservation: Reservation::new(&context.vitals, cost, 8).unwrap(),
        deadline: arrived + Duration::from_secs(3600),
        expires_after: Duration::MAX,
        expected_wait: Duration::ZERO,
    };
    let deployment = Arc::clone(context.registry.default_deployment());
    Job::prediction((body, spoken), deployment, "id".into(), arrived, admitted)
}

#[test]
fn a_request_has_given_all_back_before_its_answer() {
    let cost = Cost {
        whole: Duration::from_secs(9),
        slice: Duration::from_millis(5),
    };
    for rows in [1, 200] {
        let (context, lane, intake) = context();
        let running = RunningWorker::enter(&context, LaneKind::Predict, 0);
        let mut worker = Worker {
            place: WorkerPlace {
                context: &context,
                lane: &context.vitals.predict,
                worker_slot: running.worker_slot,
            },
            role: ThreadRole::PredictionWorker,
            priority: Priority::new(context.config.yielding, CpuUse::Computing),
            scheduler: Scheduler::new(intake, Suspended::new().0),
        };
        let (job, pending) = prediction(&context, rows, cost);
        lane.offer(job).unwrap();
        let mut slices = 0;
        let (reply_sender, reply) = loop {
            slices += 1;
            let next = worker.scheduler.next_now().unwrap();
            match worker.run_next(next) {
                Some(answer) => break answer,
                None => assert!(context.vitals.predict.work.suspended() > Duration::ZERO),
            }
        };
        assert_eq!(slices > 1, rows > 1, "{rows} rows take {slices} slices");
        assert!(pending.recv_soon().is_none(), "nobody can have seen it yet");
        let lane = &context.vitals.predict;
        assert_eq!((lane.work.admitted(), lane.busy()), (0, 0));
        assert_eq!(
            (lane.work.waiting(), lane.work.suspended()),
            Default::default()
        );
        assert_eq!(lane.completed.value(), 1);
        let now = context.vitals.clock.now();
        assert_eq!(
            running.worker_slot.residual(now, Duration::MAX),
            Some(Duration::ZERO)
        );
        let answer = reply.result.as_ref().unwrap();
        assert_eq!(answer.status, 200);
        assert!(reply.charge.is_some());
        let kept = context.budget.bytes();
        assert!(
            kept < 2 * answer.body.len().max(256),
            "{rows} rows: {kept} bytes"
        );
        reply_sender.answer(reply);
        assert!(pending.recv_soon().is_some());
        assert_eq!(context.budget.bytes(), 0, "{rows} rows");
    }
}

#[test]
fn a_refused_job_has_given_all_back_before_its_answer() {
    let (context, _lane, _intake) = context();
    let cost = Cost {
        whole: Duration::from_secs(9),
        slice: Duration::from_millis(5),
    };
    let (job, pending) = prediction(&context, 200, cost);
    assert!(context.budget.bytes() > 0);
    job.refuse(RequestError::new(Code::Draining, "x"), clock::instant());
    let work = &context.vitals.predict.work;
    assert_eq!((work.admitted(), work.waiting()), (0, Duration::ZERO));
    assert_eq!(context.budget.bytes(), 0);
    assert!(pending.recv_soon().is_some());
}
