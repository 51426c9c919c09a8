// Orthanc Explorer: what radloop did with a study or series, live, and "Run again".
// Everything that comes from the archive is set as text, never as markup.
(function () {
  'use strict';

  var COLORS = {
    done: '#2e7d32', refused: '#b26a00', failed: '#c62828', superseded: '#757575',
    received: '#546e7a', waiting: '#546e7a', queued: '#1565c0', running: '#1565c0', stored: '#1565c0'
  };
  var BUSY = ['received', 'waiting', 'queued', 'running', 'stored'];
  var timer = null;

  function badge(state, code) {
    // What ended without an analysis is no success, only no task.
    var idle = state === 'done' && code;
    var text = (idle ? 'not analysed' : state) + (code ? ': ' + code.replace(/_/g, ' ') : '');
    return $('<span>').text(text).css({
      background: idle ? '#757575' : COLORS[state] || '#546e7a', color: '#fff', padding: '2px 8px',
      'border-radius': '10px', 'font-size': '0.85em', 'text-shadow': 'none'
    });
  }

  function when(text) {
    var date = new Date(text);
    return isNaN(date) ? '' : date.toLocaleString();
  }

  function note(text) {
    return $('<div>').css({ 'font-size': '0.8em', color: '#555', 'white-space': 'normal' }).text(text);
  }

  function jobRow(job) {
    var row = $('<div>').css({ margin: '6px 0', 'white-space': 'normal' });
    row.append($('<b>').text(job.pipeline + ' ' + (job.version || '') + ' ')).append(badge(job.state, job.code));
    if (job.summary) {
      row.append($('<span>').text('  ' + job.summary).css({ 'font-weight': 'bold' }));
    }
    if (job.stage && BUSY.indexOf(job.state) >= 0) {
      row.append($('<span>').text('  ' + job.stage));
    }
    row.append($('<div>').css({ 'font-size': '0.8em', color: '#555' }).text(
      when(job.updated) + ' · job ' + job.job.substring(0, 12) + (job.run ? ' · run ' + job.run : '')));
    if (job.others && job.others.length) { row.append(note('read with ' + job.others.length + ' more series')); }
    if (job.after && job.after.length) {
      row.append(note('after ' + $.map(job.after, function (one) {
        return one.rule + (one.state ? ': ' + one.state : '') + (one.code ? ' (' + one.code.replace(/_/g, ' ') + ')' : '');
      }).join(', ')));
    }
    if (job.results && job.results.length && job.state !== 'superseded') {
      var links = $('<div>').css('font-size', '0.85em').text('Results: ');
      $.each(job.results, function (_i, result) {
        links.append($('<a>').attr('href', '#series?uuid=' + encodeURIComponent(result.series))
          .text(result.modality).css('margin-right', '10px'));
      });
      row.append(links);
    }
    return row;
  }

  function runButton(series, box, again) {
    return $('<button>').attr('type', 'button').text(again ? 'Run again' : 'Run').css({ cursor: 'pointer' })
      .click(function () {
        var button = $(this).attr('disabled', 'disabled');
        $.ajax({
          url: '../radloop/series/' + series + '/run/-', type: 'POST', data: '',
          success: function () { box.refresh(); },
          error: function (reply) {
            button.removeAttr('disabled');
            var text = reply.status === 409
              ? 'No rule takes this series; see why below.' : 'Not started (' + reply.status + ').';
            button.after($('<span>').text('  ' + text).css('color', '#c62828'));
          }
        });
      });
  }

  function seriesBlock(view, box, title) {
    var block = $('<div>').css({ margin: '8px 0', 'border-top': '1px solid #ddd', 'padding-top': '6px' });
    block.append($('<a>').attr('href', '#series?uuid=' + encodeURIComponent(view.series)).text(title));
    block.append(document.createTextNode('  ')).append(badge(view.state, view.code));
    if (view.excluded_by !== 'result') {
      block.append(document.createTextNode('  ')).append(runButton(view.series, box, view.jobs.length > 0));
    }
    $.each(view.jobs, function (_i, job) { block.append(jobRow(job)); });
    $.each(view.part_of || [], function (_i, part) {
      block.append(note('part of the job of rule ' + part.rule + ' on another series: ' + part.job.substring(0, 12)));
    });
    $.each(view.why, function (_i, why) {
      block.append(note('rule ' + why.rule + ': ' + (why.selected ? 'chosen' : 'not chosen') + ' (' + why.why + ')'));
    });
    return block;
  }

  function draw(box, view) {
    box.body.empty();
    var header = $('<div>').append($('<b>').text('radloop ')).append(badge(view.state, view.code));
    if (view.quarantined) {
      header.append($('<span>').css({ color: '#c62828', 'margin-left': '10px' }).text(
        view.quarantined + ' in quarantine (radloop quarantine list)'));
    }
    box.body.append(header);
    var series = view.series instanceof Array ? view.series : [view];
    var images = $.grep(series, function (one) { return one.excluded_by !== 'result'; });
    $.each(images, function (_i, one) {
      box.body.append(seriesBlock(one, box, 'Series with ' + one.instances + ' instances'));
    });
    if (images.length < series.length) {
      var count = series.length - images.length;
      var text = series.length === 1 ? 'This series is a result; the study page shows what it came from. '
        : count + ' result series in this study. ';
      box.body.append($('<div>').css({ 'font-size': '0.8em', color: '#555', 'margin-top': '8px', 'white-space': 'normal' })
        .text(text + 'Research use only, not a medical device.'));
    }
    return BUSY.indexOf(view.state) >= 0;
  }

  function attach(level, anchor) {
    $('#' + level).live('pagebeforeshow', function () {
      var uuid = $.mobile.pageData && $.mobile.pageData.uuid;
      $('#radloop-' + level).remove();
      window.clearTimeout(timer);
      if (!uuid) { return; }
      var body = $('<div>').attr('id', 'radloop-' + level).css({
        border: '1px solid #bbb', 'border-radius': '8px', padding: '10px', margin: '0 0 14px 0',
        background: '#fafafa', 'font-size': '14px', color: '#222', 'text-shadow': 'none'
      });
      var box = { body: body };
      box.refresh = function () {
        window.clearTimeout(timer);
        $.ajax({
          url: '../radloop/' + (level === 'study' ? 'studies' : 'series') + '/' + uuid,
          dataType: 'json', cache: false,
          success: function (view) {
            if (draw(box, view)) { timer = window.setTimeout(box.refresh, 1000); }
          },
          error: function (reply) {
            body.empty().text('radloop does not answer (' + reply.status + ').');
            timer = window.setTimeout(box.refresh, 5000);
          }
        });
      };
      body.insertBefore($(anchor));
      box.refresh();
    });
  }

  attach('study', '#study-info');
  attach('series', '#series-info');
}());
