// Pages in Chromium under axe-core, in both colour schemes and two widths.
// node pages.js NODE_MODULES FILE...: one JSON line for each fault; ends with 1 where there is one.
const path = require('path');

const [modules, ...files] = process.argv.slice(2);
const puppeteer = require(path.join(modules, 'puppeteer-core'));
const axe = require(path.join(modules, 'axe-core')).source;
const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

async function faults(browser, file, scheme, width) {
  const page = await browser.newPage();
  // The page's own policy forbids every script, axe too.
  await page.setBypassCSP(true);
  await page.emulateMediaFeatures([{name: 'prefers-color-scheme', value: scheme}]);
  await page.setViewport({width, height: 800});
  await page.goto('file://' + file);
  await page.evaluate(axe);
  const found = await page.evaluate((values) =>
    axe.run(document, {runOnly: {type: 'tag', values}}), tags);
  const wide = await page.evaluate(() =>
    document.documentElement.scrollWidth > document.documentElement.clientWidth);
  await page.close();
  const faults = found.violations.map((one) => ({id: one.id, html: one.nodes[0].html.slice(0, 200)}));
  if (wide) faults.push({id: 'wider than the screen'});
  if (!found.passes.length) faults.push({id: 'axe looked at nothing'});
  return faults.map((fault) => ({file, scheme, width, ...fault}));
}

(async () => {
  const browser = await puppeteer.launch(
    {executablePath: '/usr/bin/chromium', headless: true, args: ['--no-sandbox']});
  let all = [];
  for (const file of files)
    for (const scheme of ['light', 'dark'])
      for (const width of [360, 1000]) all = all.concat(await faults(browser, file, scheme, width));
  await browser.close();
  for (const fault of all) console.log(JSON.stringify(fault));
  process.exit(all.length ? 1 : 0);
})();
