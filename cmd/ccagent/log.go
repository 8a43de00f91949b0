package main

import (
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/lmittmann/tint"
	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/logfile"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
)

func logFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "log-file", Usage: "append the log to `FILE` instead of standard error", TakesFile: true},
		&cli.StringFlag{
			Name:    "log-level",
			Value:   "info",
			Usage:   "write messages of `LEVEL` and above: debug, info, warn, error",
			EnvVars: []string{"CCAGENT_LOG_LEVEL"},
		},
		&cli.StringFlag{
			Name:    "log-format",
			Usage:   "write the log as `FORMAT`: text or json (default: coloured on a terminal, else text)",
			EnvVars: []string{"CCAGENT_LOG_FORMAT"},
		},
	}
}

// openLog makes the logger that the flags describe, and returns a function that closes its file. The messages in our code are
// constants. Everything from outside is an attribute, which each handler quotes, escapes or cleans.
func openLog(c *cli.Context) (*slog.Logger, func(), error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return nil, nil, usagef(c, "--log-level %q is not one of debug, info, warn, error", c.String("log-level"))
	}
	// When nobody reads standard error any more, that must not end the agent. The signal is caught and not ignored, because the
	// programs that we start would inherit an ignored signal.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	out, closeLog := c.App.ErrWriter, func() {}
	if name := c.String("log-file"); name != "" {
		f, err := logfile.Open(name)
		if err != nil {
			return nil, nil, err
		}
		out, closeLog = f, f.Close
	}
	options := &slog.HandlerOptions{Level: level}
	var h slog.Handler
	switch format := c.String("log-format"); {
	case format == "json":
		h = slog.NewJSONHandler(out, options)
	case format == "text", format == "" && terminal.Of(out) == nil:
		h = slog.NewTextHandler(out, options)
	case format == "":
		h = tint.NewTextHandler(out, &tint.Options{
			Level: level, TimeFormat: time.TimeOnly, NoColor: os.Getenv("NO_COLOR") != "", ReplaceAttr: cleanAttr,
		})
	default:
		return nil, nil, usagef(c, "--log-format %q is neither text nor json", format)
	}
	return slog.New(h), closeLog, nil
}

// cleanAttr replaces control characters, because tint would write them to the terminal as they are.
func cleanAttr(_ []string, a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	var text string
	switch v.Kind() {
	case slog.KindString:
		text = v.String()
	case slog.KindAny:
		err, ok := v.Any().(error)
		if !ok {
			return a
		}
		text = err.Error()
	default:
		return a
	}
	a.Value = slog.StringValue(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '\uFFFD'
		}
		return r
	}, text))
	return a
}
