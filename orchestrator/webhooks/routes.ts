/**
 * POST /v1/webhooks/aodh: an alarm of OpenStack parks or unparks a VM. Answers as soon as the operation is in the journal, with the
 * id of the request, so that the same one has no effect when it comes again.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import Type from 'typebox';
import { asSeamlessError, SeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { type Answer, idempotency, wasAnswered } from '../api/idempotency.ts';
import { named } from '../api/schema/common.ts';
import { Failures } from '../api/tokens/failures.ts';
import { findVm, type ManagedVm } from '../api/vms.ts';
import type { Cloud } from '../openstack/cloud.ts';
import { followers } from '../openstack/follow.ts';
import { readSecret } from '../openstack/openstack-config.ts';
import { ownRequests } from '../openstack/own-requests.ts';
import type { Journal } from '../saga/journal.ts';
import type { RequestNote } from '../vm/driver-deps.ts';
import { askedWake } from '../vm/wake.ts';
import { type Action, type Alarm, AlarmBody, serverOf, wantedAction } from './alarm.ts';
import { novaBridge } from './nova-bridge.ts';
import { type Sender, senders } from './senders.ts';
import { parseSecret } from './signature.ts';
import type { WebhooksConfig } from './webhook-config.ts';

export interface WebhookDeps {
  vms: ReadonlyMap<string, ManagedVm>;
  journal: Journal;
  log: Log;
  config: WebhooksConfig;
  cloud: Pick<Cloud, 'tokens' | 'projectId' | 'requests'> | null;
  /** Why the VM may not be parked now, by its policy; null when it may. */
  veto?(vm: string): string | null;
}

declare module 'fastify' {
  interface FastifyRequest {
    sender: Sender | null;
  }
}

const AlarmQuery = Type.Object(
  {
    action: Type.Unsafe<Action>({
      type: 'string',
      enum: ['park', 'unpark'],
      description: 'On `alarm`; on `ok` the other one.',
    }),
    vm: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 64,
        description: 'Which VM, when the alarm is not about an event of a server.',
      }),
    ),
  },
  { additionalProperties: false },
);
const WebhookReply = Type.Object(
  {
    vm: Type.Union([Type.String(), Type.Null()]),
    action: Type.Union([Type.String(), Type.Null()]),
    already: Type.Boolean({ description: 'The VM was as wanted before, or on its way.' }),
    operation: Type.Union([Type.String(), Type.Null()], { description: 'Follow it at /v1/operations/:id.' }),
    ignored: Type.Union([Type.String(), Type.Null()], { description: 'Why nothing was done.' }),
  },
  { $id: 'WebhookReply' },
);
const BODY_BYTES = 64 * 1024;
/** An unpark behind a park that is past its pivot begins only then: whoever sends is not kept waiting. */
const ANSWER_WITHIN_MS = 20;

export function webhookRoutes(app: FastifyInstance, deps: WebhookDeps): void {
  const { vms, journal, log, config } = deps;
  const secrets = (config.signers ?? []).map(({ name, secretFile }) =>
    parseSecret(name, readSecret(secretFile)),
  );
  const senderOf = senders({ config, secrets, cloud: deps.cloud });
  const failures = new Failures();
  const once = idempotency(journal);
  const byServer = new Map(
    [...vms.values()].flatMap((vm) => (vm.config.openstack ? [[vm.config.openstack.serverId, vm]] : [])),
  );
  const bodies = new WeakMap<FastifyRequest, Buffer>();

  for (const schema of [AlarmBody, WebhookReply]) app.addSchema(schema);
  app.decorateRequest('sender', null);
  // What is signed is the bytes that came, not what they say.
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer', bodyLimit: BODY_BYTES },
    (request, body, done) => {
      bodies.set(request, body as Buffer);
      try {
        done(null, JSON.parse(body.toString('utf8')));
      } catch (cause) {
        done(new SeamlessError('REQUEST_INVALID', `Expected JSON, got ${(cause as Error).message}`));
      }
    },
  );
  app.addHook('preValidation', async (request) => {
    failures.admit(request.ip);
    try {
      request.sender = await senderOf(request, bodies.get(request) ?? Buffer.alloc(0));
    } catch (thrown) {
      const error = asSeamlessError(thrown);
      if (error.code === 'UNAUTHENTICATED') failures.failed(request.ip);
      log.warn('webhook.refused', { from: request.ip, url: request.url, error });
      throw thrown;
    }
  });

  app.post<{ Querystring: Type.Static<typeof AlarmQuery>; Body: Alarm }>(
    '/v1/webhooks/aodh',
    {
      config: { scope: 'own' },
      bodyLimit: BODY_BYTES,
      schema: {
        ...{
          tags: ['webhooks'],
          operationId: 'aodhAlarm',
          summary: 'An alarm of aodh parks or unparks a VM.',
        },
        ...{
          querystring: AlarmQuery,
          body: named(AlarmBody),
          response: { 200: named(WebhookReply), 202: named(WebhookReply) },
        },
      },
    },
    async (request, reply) => {
      const { query, body } = request;
      const sender = request.sender as Sender;
      const action = wantedAction(body, query.action);
      if (action === null) {
        const ignored = `the alarm is in the state “${body.current}”`;
        return { vm: query.vm ?? null, action: null, already: false, operation: null, ignored };
      }
      const vm = vmOf(body, query.vm);
      await sender.mayActOn(vm.config);
      const name = vm.config.name;
      const key = keyOf(sender, request);
      if (sender.signedId !== null && key !== undefined) refuseReplay(key);
      const by = `the alarm ${body.alarm_name ?? body.alarm_id} of ${sender.name}`;
      const answer = await once({ key, vm: name, what: action }, (note) => act(vm, action, by, note));
      log.info('webhook.taken', { vmId: name, action, alarm: body.alarm_id, sender: sender.name, ...answer });
      return reply
        .code(answer.operation === null ? 200 : 202)
        .send({ vm: name, action, ...answer, ignored: null });
    },
  );

  const requests = deps.cloud?.requests ?? ownRequests(journal);
  novaBridge(app, followers(vms.values(), requests, log), BODY_BYTES);

  function vmOf(alarm: Alarm, named: string | undefined): ManagedVm {
    if (named !== undefined) return findVm(vms, named);
    const server = serverOf(alarm);
    if (server === null) {
      throw new SeamlessError(
        'REQUEST_INVALID',
        'Expected an event alarm with the trait instance_id, or ?vm=NAME in the URL, got neither',
      );
    }
    const vm = byServer.get(server);
    if (vm) return vm;
    throw new SeamlessError(
      'VM_UNKNOWN',
      `Expected the openstack.serverId of a registered VM, got “${server}”`,
    );
  }

  async function act(
    { driver, config: { name } }: ManagedVm,
    action: Action,
    by: string,
    note?: RequestNote,
  ): Promise<Answer> {
    if (action === 'park') {
      const veto = driver.state.kind === 'awake' ? deps.veto?.(name) : null;
      if (veto) throw new SeamlessError('VM_VETOED', `${name}: ${veto}`);
      return driver.park({ cause: 'webhook', by }, note);
    }
    const running = driver.state.kind === 'parking' ? driver.state.operation : null;
    const unpark = driver.unpark({ force: false, wake: askedWake('webhook', by) }, note);
    let timer: NodeJS.Timeout | undefined;
    const soon = new Promise<Answer>((resolve) => {
      timer = setTimeout(() => resolve({ already: false, operation: running }), ANSWER_WITHIN_MS);
    });
    unpark.catch((error) => log.warn('webhook.unparkFailed', { vmId: name, error }));
    return Promise.race([unpark, soon]).finally(() => clearTimeout(timer));
  }

  /** Scoped by who sends, so that nobody can use up the ids of another. */
  function keyOf(sender: Sender, { headers }: FastifyRequest): string | undefined {
    const id = sender.signedId ?? headers['x-openstack-request-id'];
    return typeof id === 'string' && id !== '' ? `webhook ${sender.name} ${id.slice(0, 256)}` : undefined;
  }

  function refuseReplay(key: string): void {
    const before = wasAnswered(journal, key);
    if (!before) return;
    const { operation } = before;
    throw new SeamlessError(
      'WEBHOOK_REPLAYED',
      'Expected a webhook-id that is new, got one that was taken before',
      {
        details: { operation },
      },
    );
  }
}
