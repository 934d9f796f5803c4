/** Against the real thing: Keystone, Nova, Placement, aodh, RabbitMQ and MariaDB of Debian, started once for all. `scripts/test openstack`. */

import { afterAll, beforeAll, vi } from 'vitest';
import { alarmTests } from './alarms.ts';
import { notificationTests } from './notifications.ts';
import { powerTests } from './power.ts';
import { openStage, type Stage } from './stage.ts';
import { tokenTests } from './tokens.ts';

vi.setConfig({ testTimeout: 120_000 });
let stage: Stage;

beforeAll(async () => {
  stage = await openStage();
}, 900_000);
afterAll(() => stage?.close());

tokenTests(() => stage);
powerTests(() => stage);
alarmTests(() => stage);
notificationTests(() => stage);
