/**
 * Errors with stable codes. One class; one table maps each code to what the API and the CLI answer.
 *
 * Expected refusals of a request (an unknown VM, a VM that is busy) are values of the function that decides;
 * they become a `SeamlessError` at the edge. Everything else that fails throws one, with its cause kept.
 * `docs/errors.md` has a line per code; a test holds the two together.
 */

/** code → HTTP status of the API, exit code of the CLI, and what the operator should do next. */
export const ERRORS = {
  VM_UNKNOWN: { status: 404, exit: 4, next: 'Run `seamless list` to see the registered VMs.' },
  OPERATION_UNKNOWN: { status: 404, exit: 4, next: 'Operations are listed by `seamless events`.' },
  HOST_UNKNOWN: { status: 404, exit: 4, next: 'Run `seamless host list` to see the hosts.' },
  SINK_UNKNOWN: { status: 404, exit: 4, next: 'Run `seamless sink list` to see the sink servers.' },
  HOST_IN_USE: { status: 409, exit: 5, next: 'Move or remove what the message names first.' },
  HOST_KEY_UNCONFIRMED: {
    status: 409,
    exit: 8,
    next: 'Compare the fingerprint with the host’s console, then give the key by --host-key.',
  },
  RECEIVER_UNKNOWN: { status: 404, exit: 4, next: 'Run `seamless receiver list` to see the receivers.' },
  TOKEN_UNKNOWN: { status: 404, exit: 4, next: 'Run `seamless token list` to see the tokens.' },
  ROUTE_UNKNOWN: { status: 404, exit: 2, next: 'docs/api.md and /v1/openapi.json list what there is.' },
  VM_BUSY: { status: 409, exit: 5, next: 'Wait for the running operation, shown by `seamless show VM`.' },
  VM_VETOED: { status: 409, exit: 5, next: 'The policy keeps the VM awake; `seamless explain VM` says why.' },
  VM_GONE: { status: 410, exit: 4, next: 'Take it out of the configuration.' },
  VM_OUTSIDE: {
    status: 409,
    exit: 7,
    next: 'The message says what somebody else did to the VM, and what to do.',
  },
  VM_STUCK: {
    status: 409,
    exit: 6,
    next: 'Everything is kept. `seamless show VM` says what failed and what to do.',
  },
  VM_UNPARKABLE: {
    status: 409,
    exit: 7,
    next: 'End or reconfigure the named process; `seamless show VM` lists all reasons.',
  },
  TEMPLATE_MISMATCH: {
    status: 409,
    exit: 7,
    next: 'Rebuild the VM from the sink server’s template, or add its template there.',
  },
  AGENT_UNREACHABLE: {
    status: 502,
    exit: 8,
    next: 'Check that the agent’s service runs and the management network is up.',
  },
  AGENT_REFUSED: { status: 502, exit: 8, next: 'The agent’s message says what it could not do.' },
  RUNTIME_UNREACHABLE: {
    status: 502,
    exit: 8,
    next: 'Start the container engine of the sink server, or mend `runtime.socket` in its agent’s configuration.',
  },
  HOST_UNREACHABLE: {
    status: 502,
    exit: 8,
    next: 'Check the host’s QMP, OVS and cgroup paths in the configuration.',
  },
  SINK_UNREACHABLE: {
    status: 502,
    exit: 8,
    next: 'The VM is untouched. Mend the network between its host and the sink server as the message says.',
  },
  HOST_MEMORY_SHORT: {
    status: 507,
    exit: 8,
    next: 'The VM is untouched. Add swap on its host, wake fewer VMs there, or switch it off to disk.',
  },
  HOST_DISK_FULL: {
    status: 507,
    exit: 8,
    next: 'Free room in the folder of the VM’s `suspendToDisk`, or choose another method; the VM is awake.',
  },
  STATE_STALE: {
    status: 409,
    exit: 9,
    next: 'Somebody has started the VM by other means. Its saved memory is kept; start the VM as they did.',
  },
  CHECKPOINT_FAILED: {
    status: 502,
    exit: 9,
    next: 'The processes go on where they were. The details hold the end of CRIU’s log.',
  },
  RESTORE_FAILED: {
    status: 502,
    exit: 9,
    next: 'The image is kept. The details hold the end of CRIU’s log.',
  },
  IMAGE_CORRUPT: { status: 502, exit: 9, next: 'The copy is refused and the original kept; try again.' },
  ABORTED: { status: 409, exit: 10, next: 'The VM was needed meanwhile; nothing is lost.' },
  TIMEOUT: { status: 504, exit: 11, next: 'The step’s name says who did not answer.' },
  COMMAND_FAILED: {
    status: 502,
    exit: 12,
    next: 'The details hold the command, its exit status and the end of its output.',
  },
  WEBHOOK_REPLAYED: { status: 409, exit: 5, next: 'It was taken before; its operation is in the details.' },
  CLOUD_UNREACHABLE: {
    status: 502,
    exit: 8,
    next: 'Check `openstack.authUrl`, the catalog’s endpoints and the network to them.',
  },
  CLOUD_REFUSED: {
    status: 502,
    exit: 8,
    next: 'The message says what Keystone or Nova answered; its log has the request id of the details.',
  },
  CONFIG_INVALID: { status: 400, exit: 2, next: 'Mend the listed places in the configuration.' },
  BODY_TOO_LARGE: { status: 413, exit: 2, next: 'Send less; nothing was changed.' },
  IDEMPOTENCY_CONFLICT: {
    status: 422,
    exit: 2,
    next: 'Use a new Idempotency-Key for each new request, and the old one only to repeat it.',
  },
  UNAUTHENTICATED: {
    status: 401,
    exit: 13,
    next: 'Give a token that is valid: `seamless token create`, then --token-file FILE.',
  },
  FORBIDDEN: { status: 403, exit: 13, next: 'Use a token of the scope that the message names.' },
  RATE_LIMITED: { status: 429, exit: 13, next: 'Wait as long as Retry-After says.' },
  REQUEST_INVALID: { status: 400, exit: 2, next: 'The message says what was expected.' },
  PREREQUISITE_MISSING: { status: 500, exit: 3, next: 'The message says what is missing and how to get it.' },
  JOURNAL_INCOMPATIBLE: {
    status: 500,
    exit: 3,
    next: 'Run the version that wrote the journal, or let it finish there first.',
  },
  ILLEGAL_TRANSITION: {
    status: 500,
    exit: 1,
    next: 'A defect of SEaMLESS. Please report it with the journal.',
  },
  INTERNAL: { status: 500, exit: 1, next: 'A defect of SEaMLESS. Please report it with the log.' },
} as const satisfies Record<string, { status: number; exit: number; next: string }>;

export type ErrorCode = keyof typeof ERRORS;

/** An error as it crosses a process boundary. */
export interface ErrorBody {
  code: ErrorCode;
  message: string;
  details?: Record<string, unknown>;
}

export class SeamlessError extends Error {
  readonly code: ErrorCode;
  readonly details: Record<string, unknown>;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; details?: Record<string, unknown> } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = 'SeamlessError';
    this.code = code;
    this.details = options.details ?? {};
  }

  toBody(): ErrorBody {
    return { code: this.code, message: this.message, details: this.details };
  }

  static fromBody(body: ErrorBody): SeamlessError {
    const code = body.code in ERRORS ? body.code : 'INTERNAL';
    return new SeamlessError(code, body.message, body.details ? { details: body.details } : {});
  }
}

/** Any thrown value as a `SeamlessError`; what is not one already becomes `INTERNAL` with its cause. */
export function asSeamlessError(thrown: unknown): SeamlessError {
  if (thrown instanceof SeamlessError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new SeamlessError('INTERNAL', message, { cause: thrown });
}
