/** What the driver of a VM needs, what it answers, and what it tells. */
import type { ErrorBody } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { SinkStatus } from '../../sink-agent/api.ts';
import type { HostLoss } from '../host/reachability.ts';
import type { SagaDefinition } from '../saga/definition.ts';
import type { Journal } from '../saga/journal.ts';
import type { ParkState } from '../sagas/park.ts';
import type { Held } from '../sagas/ports.ts';
import type { UnparkState } from '../sagas/unpark.ts';
import type { Parked, VmState, Wake } from './state.ts';
import type { WakeWatch } from './wake-watch.ts';

export interface DriverDeps {
  vm: string;
  journal: Journal;
  log: Log;
  park: SagaDefinition<ParkState>;
  unpark: SagaDefinition<UnparkState>;
  /** What waits at the VM’s port. */
  held(): Promise<Held>;
  /** What the sink agent says of the VM’s sink. */
  sink(): Promise<SinkStatus | null>;
  /** Puts the flows of a parked VM back, after its bridges have forgotten them. */
  reassert(parked: Parked): Promise<void>;
  /** Its QEMU has gone: a wake would only disturb the sink. */
  hypervisorLost(): boolean;
  /** Set while its host can’t be reached: it is not parked, and a wake waits. */
  hostLost(): HostLoss | null;
  /** The same of its sink server: it is not parked. */
  sinkHostLost(): HostLoss | null;
  /** Judges each wake by what the VM does afterwards. */
  watch: Pick<WakeWatch, 'begin' | 'resume' | 'leave' | 'stop'>;
  /** Where others may change it: suspend, move or delete it. */
  outside?: OutsideDeps | undefined;
  /** Told of each new state, after it is durable. */
  onMove?(move: Move): void;
  /** The journal can’t be written, or the engine has a defect: the process must end and recover. */
  onFatal(error: unknown): void;
}

export interface OutsideDeps {
  /** What names the VM there: Nova’s id of its server. */
  id: string;
  /** What its host is called there. */
  home: string;
  /** Whether it has been deleted for good; throws when nobody can say. */
  isGone(): Promise<boolean>;
  /** Destroys the sink of a VM that is gone, and what leads to it. Ensures. */
  forget(sinkPort: string | null): Promise<void>;
}

/** The VM has come into another state. */
export interface Move {
  state: VmState['kind'];
  /** Of a wake, and of a park that was taken back: who wanted the VM; null when nobody did. */
  cause: Wake['cause'] | 'use' | null;
  /** Of a park that was taken back: what was in its way. */
  error: ErrorBody | null;
}

export interface Reply {
  already: boolean;
  /** Where the request’s fate can be followed; null when there is nothing to do. */
  operation: string | null;
}

/** What makes a request known again; written with the operation that it begins. */
export interface RequestNote {
  key: string;
  what: string;
}
