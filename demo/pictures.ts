/** The page in Chromium while the demo plays: open from the beginning, pictures of it at the end, wide, dark and on a phone. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { launch, type Page } from 'puppeteer-core';
import { SeamlessError } from '../common/errors.ts';
import type { BroughtPage } from '../lab/page.ts';

const CHROMIUM = '/usr/bin/chromium';
const WIDE = { width: 1180, height: 900 };
const PHONE = { width: 390, height: 844, isMobile: true, hasTouch: true };
const LOAD = { timeout: 20_000 };

export interface Onlooker {
  /** Writes page-wide.png, page-dark.png and page-phone.png. */
  takePictures(folder: string): Promise<void>;
  close(): Promise<void>;
}

export async function openInChromium({ url, token }: BroughtPage): Promise<Onlooker> {
  if (!existsSync(CHROMIUM)) {
    throw new SeamlessError(
      'PREREQUISITE_MISSING',
      `Expected a browser at ${CHROMIUM}; apt-get install chromium`,
    );
  }
  const browser = await launch({
    executablePath: CHROMIUM,
    acceptInsecureCerts: true, // the lab's own authority
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
  });
  try {
    const page = await browser.newPage();
    await page.setViewport(WIDE);
    await page.goto(url, LOAD);
    await page.waitForSelector('#login:not([hidden])', LOAD);
    await page.type('#token', token);
    await page.keyboard.press('Enter');
    await page.waitForSelector('#vms tr', LOAD);
    return {
      takePictures: (folder) => takePictures(page, folder),
      close: () => browser.close(),
    };
  } catch (thrown) {
    await browser.close();
    throw thrown;
  }
}

/** Nothing is loaded anew for the first: it shows what came by the event stream. */
async function takePictures(page: Page, folder: string): Promise<void> {
  const take = (kind: string) => page.screenshot({ path: join(folder, `page-${kind}.png`), fullPage: true });
  const openFirst = `document.querySelector('#operations details')?.setAttribute('open', '')`;
  await page.evaluate(openFirst);
  await take('wide');
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'dark' }]);
  await take('dark');
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'light' }]);
  await page.setViewport(PHONE); // which loads the page anew
  await page.waitForFunction(`/[0-9]/.test(document.querySelector('#saved').textContent)`, LOAD);
  await page.evaluate(openFirst);
  await take('phone');
}
