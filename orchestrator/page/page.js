/** The page: what /v1 says, kept up to date by its event stream. Whatever comes from there is put in as text, never as HTML. */
import { bytesText, clock, draw, savedOverTime } from '/chart.js';

const STATES = ['awake', 'parking', 'parked', 'unparking', 'stuck', 'gone', 'unknown'];
const TROUBLE = ['stuck', 'gone', 'unknown'];
const PAGE = 100;
/** What the API calls a cause, for people. */
const CAUSES = {
  manual: 'by hand',
  idle: 'nobody uses it',
  syscall: 'a program went on',
  syn: 'a new connection',
  packets: 'packets for it',
  sink: 'its sink',
  timer: 'a timer is due',
  lease: 'its address has to be renewed',
  forecast: 'use is foreseen',
  policy: 'the policy',
  webhook: 'asked for by webhook',
  outside: 'resumed by others',
};
const ENDINGS = { succeeded: 'succeeded', running: 'under way', unwound: 'taken back', stuck: 'is stuck' };
const OPERATIONS_SHOWN = 30;

const $ = (id) => document.getElementById(id);
const vms = new Map();
const waiting = new Map();
let operations = [];
let scope = 'read';
let next = null;
let lastEvent = null;
/** The VM whose button was used last. */
let acting = null;
let token = sessionStorage.getItem('token');

for (const state of STATES) $('state').append(new Option(state));
$('state').addEventListener('change', () => loadVms());
$('more').addEventListener('click', () => loadVms(next));
$('login').addEventListener('submit', (event) => {
  event.preventDefault();
  token = $('token').value.trim();
  begin();
});
begin();

async function begin() {
  try {
    const caller = await get('/v1/caller');
    scope = caller.scope;
  } catch (error) {
    $('login').hidden = false;
    $('main').hidden = true;
    $('live').textContent = 'not signed in';
    $('refused').textContent = token ? error.message : '';
    $('token').focus();
    return;
  }
  if (token) sessionStorage.setItem('token', token);
  $('login').hidden = true;
  $('main').hidden = false;
  follow();
}

async function call(path, init = {}) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const response = await fetch(path, { ...init, headers: { ...headers, ...init.headers } });
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({ detail: response.statusText, next: '' }));
  throw new Error(`${problem.detail} ${problem.next ?? ''}`);
}

async function get(path) {
  return (await call(path)).json();
}

async function loadVms(cursor = null) {
  const query = new URLSearchParams({ limit: PAGE });
  if ($('state').value) query.set('state', $('state').value);
  if (cursor) query.set('cursor', cursor);
  else vms.clear();
  const page = await get(`/v1/vms?${query}`);
  for (const vm of page.vms) vms.set(vm.name, vm);
  next = page.next;
  $('more').hidden = next === null;
  $('vms').replaceChildren(...[...vms.values()].map(row));
  await loadNumbers();
}

async function loadAll() {
  await loadOperations();
  await loadVms();
}

async function loadOperations() {
  ({ operations } = await get('/v1/operations?limit=500'));
  showOperations();
}

/** Counts over all VMs, also those that are not on this page. */
async function loadNumbers() {
  const text = await (await call('/metrics')).text();
  const counts = Object.fromEntries([...text.matchAll(/^seamless_vms\{state="(\w+)"\} (\d+)/gm)].map(([, state, n]) => [state, Number(n)]));
  const saved = Number(/^seamless_memory_saved_bytes (\S+)/m.exec(text)?.[1] ?? 0);
  const trouble = TROUBLE.reduce((sum, state) => sum + (counts[state] ?? 0), 0);
  $('parked').textContent = counts.parked ?? 0;
  $('awake').textContent = counts.awake ?? 0;
  $('trouble').textContent = trouble;
  $('trouble').classList.toggle('some', trouble > 0);
  $('saved').textContent = bytesText(saved);
  const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
  $('count').textContent = `${vms.size} of ${all}`;
  const points = savedOverTime(operations, saved, Date.now());
  $('span').textContent = `since ${clock(points[0][0])}`;
  draw($('chart'), points, operations);
}

function row(vm) {
  const tr = make('tr');
  tr.id = `vm-${vm.name}`;
  tr.tabIndex = -1; // Takes the focus while nothing can be done.
  const why = vm.stuck ? `${vm.stuck.message} ${vm.stuck.next}` : (vm.hostLost?.reason ?? vm.hypervisorLost?.reason);
  const state = make('td', { className: 'state-cell' }, make('span', { className: `state ${vm.state}`, textContent: vm.state }));
  if (why) state.append(make('span', { className: 'why', textContent: why }));
  const actions = make('td', { className: 'actions' });
  if (scope !== 'read') {
    actions.append(
      button('Park', vm, 'park', vm.state === 'awake'),
      ' ',
      button('Unpark', vm, 'unpark', vm.state === 'parked' || vm.state === 'parking'),
    );
  }
  tr.append(
    make('td', {}, make('strong', { textContent: vm.name }), make('span', { className: 'why', textContent: vm.addresses.join(' ') })),
    state,
    make('td', {}, time(vm.since)),
    make('td', { className: 'host', textContent: `${vm.host} → ${vm.sink}` }),
    actions,
  );
  return tr;
}

function button(text, vm, action, isUsable) {
  const made = make('button', { textContent: text, disabled: !isUsable });
  made.setAttribute('aria-label', `${text} ${vm.name}`);
  made.addEventListener('click', async () => {
    made.disabled = true; // Which takes the focus away from it.
    acting = vm.name;
    $('said').className = '';
    try {
      await call(`/v1/vms/${encodeURIComponent(vm.name)}/${action}`, { method: 'POST' });
      $('said').textContent = `${vm.name}: ${action} begun`;
    } catch (error) {
      $('said').className = 'error';
      $('said').textContent = error.message;
      await refresh(vm.name);
    }
  });
  return made;
}

async function refresh(name) {
  const old = $(`vm-${name}`);
  if (!old) return;
  const vm = await get(`/v1/vms/${encodeURIComponent(name)}`);
  vms.set(name, vm);
  const { activeElement } = document;
  const isFocused = old.contains(activeElement) || (acting === name && activeElement === document.body);
  const made = row(vm);
  made.className = 'changed';
  old.replaceWith(made);
  // The focus stays where it was, or goes to what can be done now.
  if (isFocused) ([...made.querySelectorAll('button:enabled')].at(-1) ?? made).focus();
}

function showOperations() {
  const open = new Set([...document.querySelectorAll('#operations details[open]')].map(({ id }) => id));
  $('operations').replaceChildren(
    ...operations.slice(0, OPERATIONS_SHOWN).map((operation) => {
      const item = make('li', {}, operationDetails(operation));
      item.firstChild.open = open.has(item.firstChild.id);
      return item;
    }),
  );
}

function operationDetails(operation) {
  const { id, vm, kind, status, ms, cause, trigger, rule, error, startedAt, steps } = operation;
  const took = ms === null ? '' : ` in ${duration(ms)}`;
  const ended = ENDINGS[status] ?? status;
  const because = trigger?.detail ? `${trigger.program ? `${trigger.program}: ` : ''}${trigger.detail}` : (rule ?? '');
  const summary = make(
    'summary',
    {},
    make('span', { className: `what ${kind} ${status}`, textContent: `${vm}: ${kind} ${ended}${took} ` }),
    time(startedAt),
    make('span', { className: 'cause', textContent: [CAUSES[cause] ?? cause, because].filter(Boolean).join(' · ') }),
    make('span', { className: 'cause error', textContent: error?.message ?? '' }),
  );
  const longest = Math.max(1, ...steps.map((step) => step.ms ?? 0));
  const list = make('div', { className: 'steps' });
  for (const { name, ms, status } of steps) {
    const bar = make('meter', { min: 0, max: longest, value: ms ?? 0 });
    bar.setAttribute('aria-label', name);
    list.append(make('span', { textContent: name }), bar, make('span', { className: 'ms', textContent: ms === null ? status : duration(ms) }));
  }
  return make('details', { id }, summary, list);
}

/** The stream with the token in its header, which EventSource can’t send; goes on behind the last event. */
async function follow() {
  for (;;) {
    try {
      const headers = lastEvent === null ? {} : { 'last-event-id': lastEvent };
      const response = await call('/v1/events?steps=false', { headers });
      live(true);
      // Behind the stream, so that nothing is missed in between.
      if (lastEvent === null) loadAll().catch(() => {});
      let rest = '';
      for (const reader = response.body.pipeThrough(new TextDecoderStream()).getReader(); ; ) {
        const { value, done } = await reader.read();
        if (done) break;
        const frames = (rest + value).split('\n\n');
        rest = frames.pop();
        for (const frame of frames) heard(frame);
      }
    } catch {
      // Said below, and tried again.
    }
    live(false);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

function heard(frame) {
  const data = /^data: (.*)$/m.exec(frame)?.[1];
  const id = /^id: (\d+)$/m.exec(frame)?.[1];
  if (!data || !id) return;
  lastEvent = id;
  const event = JSON.parse(data);
  if (event.type === 'vm' || event.type === 'hypervisor') later(`vm ${event.vm}`, () => refresh(event.vm));
  if (event.type === 'operation') later('operations', loadOperations);
  later('numbers', loadNumbers);
}

/** A burst of events is one look. */
function later(what, look) {
  if (waiting.has(what)) return;
  const timer = setTimeout(() => {
    waiting.delete(what);
    look().catch(() => {});
  }, 150);
  waiting.set(what, timer);
}

function live(isOn) {
  $('live').className = isOn ? 'on' : 'off';
  $('live').textContent = isOn ? 'live' : 'the service does not answer; trying again';
}

function time(iso) {
  return make('time', { dateTime: iso, textContent: clock(iso), title: new Date(iso).toString() });
}

function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function make(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
