/** What a park makes of what it is told. */
import { expect, test } from 'vitest';
import type { AllowedCall } from '../../../../criu/answers.ts';
import type { StepContext } from '../../../../orchestrator/saga/definition.ts';
import { parkSaga } from '../../../../orchestrator/sagas/park.ts';
import { World } from './world.ts';

test('only what the profile allows programs that are there goes into the image and to the filter', async () => {
  const allowed = (program: string): AllowedCall => ({
    program,
    effect: 'open',
    path: `/etc/${program}.conf`,
  });
  const ports = new World().ports();
  const { steps } = parkSaga({ ...ports, profile: () => [allowed('java'), allowed('sshd')] });
  const admit = [steps[0] ?? []].flat()[0];
  const context = { signal: AbortSignal.timeout(5000) } as StepContext;
  expect(await admit?.do({ imageId: 'p1' }, context)).toMatchObject({ allow: [allowed('sshd')] });
});
