// SPDX-License-Identifier: Apache-2.0
// What is shown comes from this page's own server; every name is text, never markup.
'use strict'

const byId = id => document.getElementById(id)
const viewer = new niivue.Niivue({
  isRadiologicalConvention: true, sagittalNoseLeft: true, isCornerOrientationText: false, show3Dcrosshair: true,
  multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS, dragAndDropEnabled: false, backColor: [0, 0, 0, 1],
  crosshairColor: [0.55, 0.6, 0.65, 0.55], crosshairWidth: 0.5, fontColor: [1, 0.95, 0.6, 1], loadingText: '', isNearestInterpolation: false,
  logLevel: 'error', fontMinPx: 18
})
const VIEWS = {
  'all': niivue.SLICE_TYPE.MULTIPLANAR, 'axial': niivue.SLICE_TYPE.AXIAL, 'coronal': niivue.SLICE_TYPE.CORONAL,
  'sagittal': niivue.SLICE_TYPE.SAGITTAL, '3D': niivue.SLICE_TYPE.RENDER
}
const state = { cases: [], number: 0, shown: null, layer: null, hidden: new Set(), view: 'all' }

function say (text, error = false) {
  byId('said').textContent = text
  byId('said').className = error ? 'error' : ''
  document.body.dataset.state = error ? 'error' : text ? 'busy' : 'ready'
}

function make (name, text, attributes = {}) {
  const element = Object.assign(document.createElement(name), attributes)
  if (text) element.append(text)
  return element
}

async function fetched (address, as) {
  const answer = await fetch(address)
  if (!answer.ok) throw new Error((await answer.text()).trim())
  return answer[as]()
}

// one thing after the other: a click while a scan loads waits for it
let queue = Promise.resolve()
function then (work) {
  queue = queue.then(work).catch(e => say(e.message || String(e), true))
  return queue
}

async function volume (name, more) {
  const data = await fetched(`case/${state.number}/${name}`, 'arrayBuffer')
  return niivue.NVImage.new(data, 'volume.nii', 'gray', 1, null,
    more.low ?? NaN, more.high ?? NaN, true, 0.02, false, false, '')
}

async function open (number) {
  say('Reading …')
  state.number = number
  byId('case').value = number
  const shown = state.shown = await fetched(`case/${number}.json`, 'json')
  byId('name').textContent = shown.name
  byId('quality').textContent = shown.quality || ''
  byId('notes').textContent = shown.notes.join(' ')
  const report = state.cases[number].report
  byId('report').hidden = !report
  if (report) byId('report').href = report
  byId('channel').replaceChildren(...shown.scans.map((s, k) => make('option', s.name, { value: k })))
  byId('channels').hidden = shown.scans.length < 2
  byId('windows').hidden = byId('planes').hidden = shown.picture
  byId('straight').checked = shown.straight
  byId('layers').replaceChildren(make('legend', 'Label'))
  for (const [k, layer] of [...shown.layers.entries(), [-1, { name: 'nothing' }]]) {
    const button = make('input', '', { type: 'radio', name: 'layer', value: k })
    button.onchange = () => then(() => choose(k))
    const line = make('label')
    line.append(button, ` ${layer.name}`)
    byId('layers').append(line)
  }
  byId('layers').hidden = byId('organs').hidden = !shown.layers.length
  state.hidden = new Set()
  viewer.opts.isOrientationTextVisible = !shown.picture
  viewer.opts.isSliceMM = shown.straight
  viewer.opts.multiplanarShowRender = shown.picture ? niivue.SHOW_RENDER.NEVER : niivue.SHOW_RENDER.ALWAYS
  viewer.setInterpolation(shown.picture)
  await scan(0)
  const first = shown.layers.findIndex(l => l.name === 'prediction')
  await choose(shown.layers.length ? Math.max(first, 0) : -1)
  view(shown.picture ? 'axial' : 'all')
  viewer.scene.crosshairPos = viewer.mm2frac(shown.focus)
  viewer.opts.crosshairWidth = shown.picture ? 0 : 0.5
  viewer.drawScene()
  viewer.createOnLocationChange()
  say('')
}

async function scan (channel) {
  say('Reading the scan …')
  const { url, windows } = state.shown.scans[channel]
  byId('window').replaceChildren(...windows.map((w, k) => make('option', w.name, { value: k })), make('option', 'own', { value: -1 }))
  const image = await volume(url, windows[0] || {})
  while (viewer.volumes.length) viewer.removeVolumeByIndex(0)
  state.layer = null
  viewer.addVolume(image)
  if (windows.length) window_(windows[0].low, windows[0].high)
}

function window_ (low, high) {
  if (!(Number.isFinite(low) && high > low)) return
  byId('low').value = +low.toPrecision(6)
  byId('high').value = +high.toPrecision(6)
  Object.assign(viewer.volumes[0], { cal_min: low, cal_max: high })
  viewer.updateGLVolume()
}

async function choose (k) {
  for (const button of document.getElementsByName('layer')) button.checked = +button.value === k
  while (viewer.volumes.length > 1) viewer.removeVolumeByIndex(1)
  const layer = state.layer = k < 0 ? null : state.shown.layers[k]
  byId('classes').replaceChildren()
  if (layer) {
    say(`Reading the ${layer.name} …`)
    const image = await volume(layer.url, {})
    image.opacity = +byId('opacity').value
    viewer.addVolume(image)
    for (const one of layer.labels) {
      const box = make('input', '', { type: 'checkbox', checked: !state.hidden.has(one.name) })
      box.onchange = () => { state.hidden[box.checked ? 'delete' : 'add'](one.name); colours() }
      const patch = make('span')
      patch.style.background = `rgb(${one.colour.join(',')})`
      const line = make('label')
      line.append(box, patch, one.name)
      if (one.ml !== null) line.append(make('small', `${one.ml} mL`))
      const item = make('li')
      item.append(line)
      byId('classes').append(item)
    }
    colours()
  }
  say('')
}

function colours () {
  const labels = state.layer ? state.layer.labels : []
  if (!labels.length) return
  const entries = [{ value: 0, colour: [0, 0, 0], name: '', alpha: 0 },
    ...labels.map(l => ({ ...l, alpha: state.hidden.has(l.name) ? 0 : 255 }))]
  viewer.volumes[1].setColormapLabel({
    R: entries.map(e => e.colour[0]), G: entries.map(e => e.colour[1]), B: entries.map(e => e.colour[2]),
    A: entries.map(e => e.alpha), I: entries.map(e => e.value), labels: entries.map(e => e.name)
  })
  viewer.updateGLVolume()
}

function every (on) {
  for (const one of state.layer?.labels || []) state.hidden[on ? 'delete' : 'add'](one.name)
  for (const box of byId('classes').querySelectorAll('input')) box.checked = on
  colours()
}

function view (name) {
  state.view = name
  for (const button of byId('views').children) button.setAttribute('aria-pressed', String(button.textContent === name))
  viewer.setSliceType(VIEWS[name])
}

async function start () {
  for (const name of Object.keys(VIEWS)) {
    byId('views').append(make('button', name, { type: 'button', onclick: () => view(name) }), ' ')
  }
  byId('all').onclick = () => every(true)
  byId('none').onclick = () => every(false)
  byId('opacity').oninput = e => { if (viewer.volumes.length > 1) viewer.setOpacity(1, +e.target.value) }
  byId('outline').onchange = e => { viewer.overlayOutlineWidth = e.target.checked ? 1 : 0; viewer.updateGLVolume() }
  byId('straight').onchange = e => viewer.setSliceMM(e.target.checked)
  byId('window').onchange = e => {
    const chosen = state.shown.scans[byId('channel').value].windows[e.target.value]
    if (chosen) window_(chosen.low, chosen.high)
  }
  byId('low').onchange = byId('high').onchange = () => {
    byId('window').value = -1
    window_(+byId('low').value, +byId('high').value)
  }
  byId('channel').onchange = e => then(async () => {
    const layer = state.shown.layers.indexOf(state.layer)
    await scan(+e.target.value)
    await choose(layer)
  })
  viewer.onLocationChange = place => { byId('place').textContent = place.string }
  await viewer.attachToCanvas(byId('canvas'))
  if (!viewer.gl) throw new Error('This browser has no WebGL2, which the planes are drawn with.')
  viewer.setMultiplanarLayout(niivue.MULTIPLANAR_TYPE.GRID)
  state.cases = await fetched('cases.json', 'json')
  byId('case').replaceChildren(...state.cases.map((c, k) => make('option', c.name, { value: k })))
  byId('case').onchange = e => { location.hash = e.target.value }
  const asked = () => Math.min(Math.max(parseInt(location.hash.slice(1)) || 0, 0), state.cases.length - 1)
  addEventListener('hashchange', () => then(() => open(asked())))
  await open(asked())
}

then(start)
