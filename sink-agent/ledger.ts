/**
 * The state of one sink: kept in its record, told to listeners, logged. The one place where it changes.
 * Listeners hear of a change at once; the record is written right after, and before a request that changed it is answered.
 */
import type { Log } from '../common/log.ts';
import type { SinkState, SinkStatus } from './api.ts';
import { portName } from './names.ts';
import type { RecordStore, SinkRecord } from './record.ts';

export interface LedgerOptions {
  records: RecordStore;
  log: Log;
  /** Called after each change of state. */
  changed: (status: SinkStatus) => void;
}

export class Ledger {
  readonly #record: SinkRecord;
  readonly #options: LedgerOptions;
  #saved: Promise<void> = Promise.resolve();

  constructor(record: SinkRecord, options: LedgerOptions) {
    this.#record = record;
    this.#options = options;
  }

  get record(): Readonly<SinkRecord> {
    return this.#record;
  }

  status(): SinkStatus {
    const { vm, state, imageId, trigger, reason } = this.#record;
    return { vm, state, port: portName(vm), imageId, trigger, ...(reason === null ? {} : { reason }) };
  }

  /** A new state, or news of the present one. A step under way stays so unless told. */
  become(state: SinkState, more: Partial<Omit<SinkRecord, 'vm' | 'state'>> = {}): SinkStatus {
    const from = this.#record.state;
    Object.assign(this.#record, more, { state });
    const status = this.status();
    this.#options.changed(status);
    this.#options.log.info('sink.state', {
      from,
      to: state,
      imageId: status.imageId,
      reason: this.#record.reason,
    });
    void this.#save();
    return status;
  }

  /** Notes what is about to be done, or, by `null`, that nothing is; resolves when it is on record. */
  async step(
    step: SinkRecord['step'],
    more: Partial<Pick<SinkRecord, 'stepImageId' | 'init' | 'cgroup'>> = {},
  ): Promise<void> {
    Object.assign(this.#record, { stepImageId: null }, more, { step });
    await this.#save();
  }

  noteSent(imageId: string): void {
    if (!this.#record.sent.includes(imageId)) this.#record.sent.push(imageId);
    void this.#save();
  }

  /** Resolves when the present state is on record. */
  written(): Promise<void> {
    return this.#saved;
  }

  async forget(): Promise<void> {
    await this.#saved;
    await this.#options.records.remove(this.#record.vm);
  }

  #save(): Promise<void> {
    const { records, log } = this.#options;
    this.#saved = this.#saved
      .then(() => records.write(this.#record))
      .catch((error: unknown) => log.error('sink.record', { error }));
    return this.#saved;
  }
}
