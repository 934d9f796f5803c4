/**
 * What we asked Nova for, by request id, in the journal: so that a notification of our own doing is not taken for somebody else's.
 * Nova may tell of an action before its reply is here: whoever wants to know waits for what is under way.
 */
import type { Journal } from '../saga/journal.ts';

export interface OwnRequests {
  /** Runs `ask` and notes the id that it gives, durably. */
  perform(vm: string, action: string, ask: () => Promise<string>): Promise<string>;
  isOurs(vm: string, requestId: string): Promise<boolean>;
}

export function ownRequests(journal: Journal): OwnRequests {
  const underWay = new Map<string, Set<Promise<unknown>>>();
  return {
    async perform(vm, action, ask) {
      const asked = ask().then((requestId) => {
        journal.append([{ vm, event: 'cloudRequest', body: { action, requestId } }]);
        return requestId;
      });
      const ofVm = underWay.get(vm) ?? new Set();
      underWay.set(vm, ofVm.add(asked));
      try {
        return await asked;
      } finally {
        ofVm.delete(asked);
        if (ofVm.size === 0) underWay.delete(vm);
      }
    },
    async isOurs(vm, requestId) {
      await Promise.allSettled(underWay.get(vm) ?? []);
      return journal.all(vm, 'cloudRequest').some(({ body }) => body.requestId === requestId);
    },
  };
}
