/**
 * What others do to a VM: somebody suspends, stops, moves or deletes it behind our back. Noted in the journal before anything is done
 * about it, and remembered there: a VM that does not run, or runs elsewhere, can't be parked; one that has moved can't be woken either,
 * because its port is not where its packets would be sent.
 */
import type { Journal } from '../saga/journal.ts';

export interface OutsideChange {
  /** `started`: anew, with a memory of its own. */
  what: 'suspended' | 'resumed' | 'stopped' | 'started' | 'deleted' | 'moved';
  /** By which its author's log names it. */
  requestId: string | null;
  /** Where it is, when that was told. */
  host: string | null;
  /** Who tells: `Nova`. */
  by: string;
}

/** What is known to be in the way of a park or a wake; null when nothing is. */
export interface OutsideMarks {
  power: string | null;
  place: string | null;
}

const NONE: OutsideMarks = { power: null, place: null };

/** `was suspended by somebody else (Nova, request req-…)` */
export function outsideLine({ what, by, requestId, host }: OutsideChange): string {
  const where = what === 'moved' ? ` to ${host}` : '';
  return `was ${what}${where} by somebody else (${by}${requestId ? `, request ${requestId}` : ''})`;
}

/** The marks after a change. Pure. @param home what the VM's own host is called */
export function marksAfter(marks: OutsideMarks, change: OutsideChange, home: string): OutsideMarks {
  switch (change.what) {
    case 'suspended':
      return { ...marks, power: `it ${outsideLine(change)}: resume it` };
    case 'stopped':
      return { ...marks, power: `it ${outsideLine(change)}: start it` };
    case 'resumed':
    case 'started':
      return { ...marks, power: null };
    case 'moved':
      if (change.host === home) return { ...marks, place: null };
      return {
        ...marks,
        place: `it ${outsideLine(change)}: change its host, port, tap and QMP socket in the configuration, or move it back`,
      };
    case 'deleted':
      return marks;
  }
}

interface Noted {
  change: OutsideChange | null;
  marks: OutsideMarks;
  deleted: OutsideChange | null;
  id: string;
  home: string;
}

/** The marks of one VM, kept in the journal. */
export class OutsideNotes {
  readonly #journal: Journal;
  readonly #vm: string;
  readonly #id: string;
  readonly #home: string;
  #marks: OutsideMarks = NONE;
  #deleted: OutsideChange | null = null;

  constructor(journal: Journal, vm: string, { id, home }: { id: string; home: string }) {
    this.#journal = journal;
    this.#vm = vm;
    this.#id = id;
    this.#home = home;
  }

  get marks(): OutsideMarks {
    return this.#marks;
  }

  /** Set when the VM was deleted, and that has been confirmed. */
  get deleted(): OutsideChange | null {
    return this.#deleted;
  }

  /** A VM whose configuration says another host than before is where it should be. */
  start(): void {
    const body = this.#journal.last(this.#vm, 'outside')?.body as Noted | undefined;
    if (!body || body.id !== this.#id) return; // Another server had this name.
    this.#deleted = body.deleted;
    this.#marks = { power: body.marks.power, place: body.home === this.#home ? body.marks.place : null };
  }

  note(change: OutsideChange): void {
    if (change.what === 'deleted') this.#deleted = change;
    this.#put(marksAfter(this.#marks, change, this.#home), change);
  }

  /** We have just switched it on ourselves. */
  runs(): void {
    if (this.#marks.power !== null) this.#put({ ...this.#marks, power: null }, null);
  }

  #put(marks: OutsideMarks, change: OutsideChange | null): void {
    const body: Noted = { change, marks, home: this.#home, id: this.#id, deleted: this.#deleted };
    this.#journal.append([{ vm: this.#vm, event: 'outside', body }]);
    this.#marks = marks;
  }
}
