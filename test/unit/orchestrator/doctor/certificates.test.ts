import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { certificateCheck, ownCertificates } from '../../../../orchestrator/doctor/certificates.ts';
import { makeAuthority } from '../../../../orchestrator/pki/authority.ts';

const NOW = Date.UTC(2026, 0, 1);

test.each([
  ['2025-12-31T00:00:00Z', 'missing', 'ended on 2025-12-31'],
  ['2026-01-11T00:00:00Z', 'warning', 'ends on 2026-01-11, in 10 days'],
  ['2027-01-01T00:00:00Z', 'ok', 'ends on 2027-01-01, in 365 days'],
])('a certificate that ends at %s is %s', (ends, status, found) => {
  expect(certificateCheck('certificate', new Date(ends), 'Renew it', NOW)).toEqual({
    ...{ check: 'certificate', status, found, mend: 'Renew it' },
  });
});

test('the orchestrator’s own are read from their files, and one that can’t be is unknown', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'seamless-certificates-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const { ca, cert } = await makeAuthority(join(folder, 'pki'));
  const broken = join(folder, 'broken.crt');
  writeFileSync(broken, 'no certificate');
  const files = [
    { what: 'certificate', file: cert },
    { what: 'authority', file: ca },
    { what: 'certificate of the API', file: broken },
  ];
  expect(ownCertificates(files).map(({ check, status }) => [check, status])).toEqual([
    ['certificate', 'ok'],
    ['authority', 'ok'],
    ['certificate of the API', 'unknown'],
  ]);
});
