//! From what the control plane shows to what the API sends.

mod artifact;
mod money;

use neap_control::views::{
    BillView, CheckpointView, CostView, DataView, EpochView, Explanation, JobView, LogView, NodeView, ProgressView,
    ResultView, StatusView, WorkerView,
};
use neap_runtime::wire::device::Device;
use neap_scheduler::model::JobState;
use neap_scheduler::spec::Fault;
use neap_storage::record::EstimateRecord;

use super::body::{
    BillBody, BudgetBody, CheckpointBody, CostBody, DataBody, DeviceBody, EpochBody, EstimateBody, ExplanationBody,
    FaultBody, HistoryBody, JobBillBody, JobBody, JobStateBody, LogBody, NodeBillBody, NodeBody, ProgressBody,
    ResultBody, ShardsBody, StatusBody, VersionBody, WorkerBody, WorkersWantedBody,
};

impl From<JobState> for JobStateBody {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Pending(_) => Self::Pending,
            JobState::Provisioning => Self::Provisioning,
            JobState::Running => Self::Running,
            JobState::Resizing => Self::Resizing,
            JobState::Recovering(_) => Self::Recovering,
            JobState::Stopping => Self::Stopping,
            JobState::Succeeded => Self::Succeeded,
            JobState::Failed(_) => Self::Failed,
            JobState::Cancelled(_) => Self::Cancelled,
        }
    }
}

impl From<JobView> for JobBody {
    fn from(job: JobView) -> Self {
        let (min, target, max) = job.workers_wanted;
        Self {
            id: job.id.to_string(),
            name: job.name,
            project: job.project,
            spec_hash: job.spec_hash,
            state: job.state.into(),
            reason: job.state.reason().map(str::to_owned),
            why: job.why,
            submitted_ms: job.submitted,
            first_step_ms: job.first_step,
            ended_ms: job.ended,
            version: job.version,
            workers: job.workers.into_iter().map(WorkerBody::from).collect(),
            workers_wanted: WorkersWantedBody { min, target, max },
            membership_epoch: job.membership.0,
            progress: job.progress.map(ProgressBody::from),
            data: job.data.map(DataBody::from),
            epochs: job.epochs.into_iter().map(EpochBody::from).collect(),
            checkpoints: job.checkpoints,
            checkpoint: job.checkpoint.map(CheckpointBody::from),
            rate_micro_usd_per_hour: job.rate,
            cost: job.cost.into(),
            budget: job.budget.map(|budget| BudgetBody {
                max_cost_micro_usd: budget.max_cost,
                max_cost_micro_usd_per_hour: budget.max_cost_per_hour,
                reserved_micro_usd: budget.reserved,
            }),
            recoveries: job.recoveries,
            result: job.result.map(ResultBody::from),
            // It was JSON when the worker sent it; what is not any more is shown as it is.
            answer: job.answer.map(|text| serde_json::from_str(&text).unwrap_or_else(|_| text.into())),
        }
    }
}

impl From<EstimateBody> for EstimateRecord {
    fn from(estimate: EstimateBody) -> Self {
        let EstimateBody { cost_p50_micro_usd, cost_p95_micro_usd, lasts_ms } = estimate;
        Self { cost_p50: cost_p50_micro_usd, cost_p95: cost_p95_micro_usd, lasts: lasts_ms }
    }
}

impl From<WorkerView> for WorkerBody {
    fn from(worker: WorkerView) -> Self {
        Self {
            id: worker.id.to_string(),
            node: worker.node.to_string(),
            pid: worker.pid,
            state: worker.state.to_owned(),
            shards: worker.shards.map(|(from, to)| ShardsBody { from, to }),
            server: worker.server,
            replica: worker.replica,
        }
    }
}

impl From<ProgressView> for ProgressBody {
    fn from(progress: ProgressView) -> Self {
        let ProgressView { step, steps_total, epoch, epochs_total, samples, loss, samples_per_second, pause_ms } =
            progress;
        Self { step, steps_total, epoch, epochs_total, samples, loss, samples_per_second, pause_ms }
    }
}

impl From<DataView> for DataBody {
    fn from(data: DataView) -> Self {
        let DataView { waited_share, local_bytes, remote_bytes, store_bytes } = data;
        Self { waited_share, local_bytes, remote_bytes, store_bytes }
    }
}

impl From<EpochView> for EpochBody {
    fn from(epoch: EpochView) -> Self {
        let EpochView { epoch, samples, sample_digest, train_loss, eval_loss, eval_accuracy, eval_metrics } = epoch;
        Self { epoch, samples, sample_digest, train_loss, eval_loss, eval_accuracy, eval_metrics }
    }
}

impl From<CheckpointView> for CheckpointBody {
    fn from(checkpoint: CheckpointView) -> Self {
        Self { name: checkpoint.name, step: checkpoint.step, at_ms: checkpoint.at }
    }
}

impl From<CostView> for CostBody {
    fn from(cost: CostView) -> Self {
        Self {
            total_micro_usd: cost.total,
            idle_share: cost.idle_share(),
            by_category_micro_usd: cost.by_category.iter().map(|(key, &value)| (key.to_string(), value)).collect(),
            time_by_category_ms: cost.time_by_category.iter().map(|(key, &value)| (key.to_string(), value)).collect(),
        }
    }
}

impl From<ResultView> for ResultBody {
    fn from(result: ResultView) -> Self {
        Self {
            model_path: result.model_path.display().to_string(),
            card_path: result.card_path.display().to_string(),
            model_digest: result.model_digest,
            steps: result.steps,
            epochs: result.epochs,
            train_loss: result.train_loss,
            eval_loss: result.eval_loss,
            eval_accuracy: result.eval_accuracy,
            eval_metrics: result.eval_metrics,
        }
    }
}

impl From<NodeView> for NodeBody {
    fn from(node: NodeView) -> Self {
        Self {
            id: node.id.to_string(),
            offer: node.offer,
            state: node.state.to_string(),
            cpu_millis: node.size.cpus,
            memory_mib: node.size.memory,
            market: node.market.to_string(),
            price_micro_usd_per_hour: node.price,
            requested_ms: node.requested,
            ended_ms: node.ended,
            notice_until_ms: node.notice_until,
            pid: node.pid,
            jobs: node.jobs.iter().map(ToString::to_string).collect(),
            keep_reason: node.keep_reason,
            cost_micro_usd: node.cost,
            devices: node.devices.into_iter().map(DeviceBody::from).collect(),
        }
    }
}

impl From<Device> for DeviceBody {
    fn from(device: Device) -> Self {
        let gpu = device.is_gpu();
        let Device { name, kind, vendor_id, api, driver, bus, uuid, memory_bytes, memory_used_bytes, busy_percent } =
            device;
        let kind = kind.word().to_owned();
        Self { name, kind, gpu, vendor_id, api, driver, bus, uuid, memory_bytes, memory_used_bytes, busy_percent }
    }
}

impl From<Explanation> for ExplanationBody {
    fn from(answer: Explanation) -> Self {
        Self {
            subject: answer.subject,
            state: answer.state,
            reasons: answer.reasons,
            history: answer.history.into_iter().map(|line| HistoryBody { at_ms: line.at, text: line.text }).collect(),
        }
    }
}

impl From<BillView> for BillBody {
    fn from(bill: BillView) -> Self {
        let by_job = bill.by_job.into_iter();
        let by_node = bill.by_node.into_iter();
        Self {
            total: bill.total.into(),
            by_job: by_job
                .map(|(job, name, cost)| JobBillBody { job: job.map(|id| id.to_string()), name, cost: cost.into() })
                .collect(),
            by_node: by_node
                .map(|node| NodeBillBody {
                    node: node.node.to_string(),
                    offer: node.offer,
                    price_micro_usd_per_hour: node.price,
                    time_ms: node.time,
                    cost_micro_usd: node.cost,
                })
                .collect(),
        }
    }
}

impl From<LogView> for LogBody {
    fn from(piece: LogView) -> Self {
        let LogView { next_offset, text, ended } = piece;
        Self { next_offset, text, ended }
    }
}

impl From<StatusView> for StatusBody {
    fn from(status: StatusView) -> Self {
        Self {
            cluster: status.cluster,
            version: VersionBody::own().version,
            started_ms: status.started,
            pid: status.pid,
            home: status.home.display().to_string(),
            journal_records: status.journal_records,
            live_jobs: status.live_jobs,
            live_nodes: status.live_nodes,
        }
    }
}

impl From<&Fault> for FaultBody {
    fn from(fault: &Fault) -> Self {
        Self {
            code: fault.code.to_string(),
            severity: fault.severity.to_string(),
            path: fault.path.clone(),
            message: fault.message.clone(),
            help: fault.help.clone(),
            line: fault.span.as_ref().map(|span| span.line),
            column: fault.span.as_ref().map(|span| span.column),
        }
    }
}
