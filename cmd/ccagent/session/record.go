package session

import (
	"net/http"
	"os"
	"time"

	"github.com/ccagent/ccagent/agent/gateway"
	"github.com/ccagent/ccagent/agent/gateway/audit"
	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/protocol"
)

// options are those of every gateway.
func options(agent protocol.Agent, table route.Table, r *record) gateway.Options {
	return gateway.Options{Agent: agent, Routes: table, Proxy: http.ProxyFromEnvironment, Decided: r.decided}
}

// record writes down what a gateway has decided. Without a file it writes nothing: a gateway serves all the same.
type record struct{ log *audit.Log }

// begin makes the file, before the gateway serves. It returns a notice for a person if there can be none.
func (r *record) begin(folder func() (string, error), began audit.Began, table route.Table, lost func(error)) (notice string) {
	began.PID = int32(os.Getpid())
	for _, one := range table {
		began.Routes = append(began.Routes, one.Name)
	}
	dir, err := folder()
	if err == nil {
		r.log, err = audit.Open(dir, began, lost)
	}
	if err != nil {
		return "the requests of this session are not written down: " + err.Error()
	}
	return ""
}

func (r *record) decided(d gateway.Decision) {
	if r.log == nil {
		return
	}
	r.log.Add(audit.Entry{
		Time: d.Began, PID: d.Peer.PID, Program: d.Peer.Program, Profile: d.Profile, Route: d.Route, Method: d.Method, Host: d.Host,
		Path: d.Path, Status: d.Status, Sent: d.Sent, Got: d.Received, Renewed: d.Renewed, Foreign: d.Foreign, Refused: d.Refused,
		Took: float64(d.Took.Round(10*time.Microsecond)) / float64(time.Millisecond),
	})
}

func (r *record) close() {
	if r.log != nil {
		r.log.Close()
	}
}
