/** When certificates end: the orchestrator’s own by their files, the agents’ as they show them. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Check } from './finding.ts';

export interface Certificate {
  /** `certificate`, `authority`, … */
  what: string;
  file: string;
}

const DAY_MS = 24 * 3600_000;
const WARN_DAYS = 30;

export function renewAgent(kind: 'sink' | 'vm'): string {
  return `Renew it: seamless ${kind} install, as when the agent was installed (docs/install.md).`;
}

const RENEW_OWN =
  'Renew it with the authority’s key, and start the orchestrator anew: docs/install.md#certificates.';

export function ownCertificates(certificates: readonly Certificate[]): Check[] {
  return certificates.map(({ what, file }) => {
    try {
      const { validTo } = new X509Certificate(readFileSync(file));
      return certificateCheck(what, new Date(validTo), RENEW_OWN);
    } catch (thrown) {
      return { check: what, status: 'unknown', found: (thrown as Error).message, mend: RENEW_OWN };
    }
  });
}

export function certificateCheck(check: string, ends: Date | null, mend: string, now = Date.now()): Check {
  if (ends === null) return { check, status: 'unknown', found: 'not seen yet', mend };
  const days = Math.floor((ends.getTime() - now) / DAY_MS);
  const on = ends.toISOString().slice(0, 10);
  if (days < 0) return { check, status: 'missing', found: `ended on ${on}`, mend };
  const found = `ends on ${on}, in ${days} days`;
  return { check, status: days < WARN_DAYS ? 'warning' : 'ok', found, mend };
}
