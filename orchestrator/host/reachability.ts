/**
 * Whether a host can be reached, as far as is known: stands beside the states of its VMs and replaces none. What the journal says of
 * them stays true (a parked VM's processes are the sink's), but nobody can look, so nobody acts on it: no park, and a wake waits.
 */
import type { SeamlessError } from '../../common/errors.ts';

export interface HostLoss {
  host: string;
  /** When it was noticed (ISO 8601). */
  since: string;
  reason: string;
  /** What the operator should do. */
  next: string;
}

export class Reachability {
  readonly #host: string;
  #loss: HostLoss | null = null;

  constructor(host: string) {
    this.#host = host;
  }

  /** Null while the host is there, or was not asked yet. */
  get loss(): HostLoss | null {
    return this.#loss;
  }

  /** The latest reason counts, the first moment too. */
  lost({ message, details }: SeamlessError): void {
    const since = this.#loss?.since ?? new Date().toISOString();
    this.#loss = { host: this.#host, since, reason: message, next: nextStep(details.refused) };
  }

  back(): void {
    this.#loss = null;
  }
}

/** @param refused what was refused (host/ssh/session.ts): then the host is there, and it is not a matter of waiting */
function nextStep(refused: unknown): string {
  if (refused !== undefined)
    return 'It answers and is refused, or refuses: docs/hosts.md says what to do for each message.';
  return 'The connection is made again by itself; look at the host, its sshd and the network in between.';
}
