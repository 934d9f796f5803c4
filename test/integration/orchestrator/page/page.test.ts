/** The page in Debian’s Chromium (scripts/test installs it), over TLS, as a user has it. SEAMLESS_SCREENSHOTS=FOLDER keeps what it looked like. */
import { join } from 'node:path';
import { type Browser, launch, type Page } from 'puppeteer-core';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type Served, serve, tokenOf } from '../api/served.ts';

const CHROMIUM = '/usr/bin/chromium';
const WIDE = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844, isMobile: true, hasTouch: true };
const DEADLINE = { timeout: 15_000 };
let browser: Browser;

beforeAll(async () => {
  browser = await launch({
    executablePath: CHROMIUM,
    acceptInsecureCerts: true,
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
  });
}, 60_000);
afterAll(async () => {
  await browser?.close();
});

test('a VM is parked and woken by keyboard, and all of it is seen as it happens', async () => {
  const served = await serve({ tls: true, vms: { web1: {}, web2: {} } });
  const page = await signIn(served, 'operate');
  await page.waitForSelector('#vm-web1 .state.awake', DEADLINE);
  expect(await text(page, '#live')).toBe('live');

  await page.focus('#vm-web1 button:enabled');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#vm-web1 .state.parked', DEADLINE);
  await shows(page, '#parked', /^1$/);
  await shows(page, '#operations', /web1: park succeeded/);
  expect(await text(page, '#operations summary')).toMatch(/^web1: park succeeded in /);

  // The focus has gone to what can be done now.
  expect(await page.evaluate(`document.activeElement.getAttribute('aria-label')`)).toBe('Unpark web1');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#vm-web1 .state.awake', DEADLINE);
  await shows(page, '#operations', /web1: unpark succeeded/);
  await page.focus('#operations summary');
  await page.keyboard.press('Enter');
  expect(await text(page, '#operations details[open] .steps')).toMatch(
    /resume.*freeze.*flip.*restore.*release/s,
  );
  // The token stays in the tab.
  await page.reload();
  await page.waitForSelector('#vm-web2 .state.awake', DEADLINE);
  await pictures(page, 'operated');
}, 60_000);

test('who may only look has no buttons, and a wrong token is told so', async () => {
  const served = await serve({ tls: true });
  const wrong = await open(served);
  await wrong.waitForSelector('#login:not([hidden])', DEADLINE);
  await wrong.type('#token', 'seamless_0_0');
  await wrong.keyboard.press('Enter');
  await shows(wrong, '#refused', /known/);
  const page = await signIn(served, 'read');
  await page.waitForSelector('#vm-vm1', DEADLINE);
  expect(await page.$$('#vms button')).toHaveLength(0);
}, 60_000);

test('what comes from a VM is text, whatever it says, and a stuck VM stands out', async () => {
  const served = await serve({ tls: true });
  const { journal } = served;
  const evil = '<img src=x onerror="document.title=1">';
  const wake = {
    cause: 'syscall',
    at: new Date().toISOString(),
    trigger: { program: evil, pid: 7, syscall: 'x', detail: evil, rule: 'r' },
  };
  const saga = 'unpark-vm1-evil';
  journal.append([
    { vm: 'vm1', saga, event: 'sagaCreated', body: { definition: 'unpark', input: { wake } } },
  ]);
  const page = await signIn(served, 'read');
  await page.waitForSelector('#operations li', DEADLINE);
  expect(await text(page, '#operations .cause')).toContain('<img src=x');
  expect(await page.$$('#operations img')).toHaveLength(0);
  expect(await page.title()).toBe('SEaMLESS');
}, 60_000);

test('nothing lies outside of a phone’s screen, and every control is large enough to hit', async () => {
  const served = await serve({
    tls: true,
    vms: { 'a-virtual-machine-with-a-rather-long-name-for-a-phone': {}, vm2: {} },
  });
  const page = await signIn(served, 'operate', PHONE);
  await page.waitForSelector('#vm-vm2', DEADLINE);
  const found = (await page.evaluate(`({
    width: document.documentElement.scrollWidth,
    least: Math.min(...[...document.querySelectorAll('#main button:not([hidden])')].map((each) => each.getBoundingClientRect().height)),
  })`)) as { width: number; least: number };
  expect(found.width).toBeLessThanOrEqual(PHONE.width);
  expect(found.least).toBeGreaterThanOrEqual(36);
}, 60_000);

async function open({ api }: Served, viewport: typeof WIDE = WIDE): Promise<Page> {
  const context = await browser.createBrowserContext();
  onTestFinished(() => context.close());
  const page = await context.newPage();
  await page.setViewport(viewport);
  await page.goto(`https://127.0.0.1:${api.address?.port}/`);
  return page;
}

async function signIn(served: Served, scope: string, viewport?: typeof WIDE): Promise<Page> {
  const page = await open(served, viewport);
  await page.waitForSelector('#login:not([hidden])', DEADLINE);
  await page.type('#token', await tokenOf(served, scope));
  await page.keyboard.press('Enter');
  await page.waitForSelector('#main:not([hidden])', DEADLINE);
  return page;
}

async function text(page: Page, selector: string): Promise<string> {
  return page.$eval(selector, (found) => found.textContent ?? '');
}

async function shows(page: Page, selector: string, wanted: RegExp): Promise<void> {
  await page.waitForFunction(
    `${wanted}.test(document.querySelector(${JSON.stringify(selector)})?.textContent ?? '')`,
    DEADLINE,
  );
}

/** Wide, on a phone, and dark. */
async function pictures(page: Page, name: string): Promise<void> {
  const folder = process.env.SEAMLESS_SCREENSHOTS;
  if (!folder) return;
  const take = (kind: string) =>
    page.screenshot({ path: join(folder, `${name}-${kind}.png`), fullPage: true });
  await take('wide');
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'dark' }]);
  await take('dark');
  await page.setViewport(PHONE);
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'light' }]);
  await page.waitForSelector('#operations li', DEADLINE); // Becoming a phone loads the page anew.
  await take('phone');
}
