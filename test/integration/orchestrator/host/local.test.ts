/** The host that the tests run on. */
import { describe } from 'vitest';
import { localHost } from '../../../../orchestrator/host/local.ts';
import { hostContract } from './contract.ts';

describe('the local host', () => {
  const host = localHost();
  hostContract(() => host);
});
