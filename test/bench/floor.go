package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

//go:embed floor/floor.c
var floorSource string

// buildFloor builds the C program that makes the system calls of a whole run of cchelper and does nothing else.
func (b *bench) buildFloor(ctx context.Context) (program, error) {
	p := program{name: "a freestanding C program with its system calls", path: filepath.Join(b.dir, "floor"), env: b.agent.env}
	compiler := compiler()
	switch {
	case runtime.GOOS != "linux" || runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64":
		p.missing = "cchelper makes those calls on Linux alone, on amd64 and arm64"
	case compiler == "":
		p.missing = "there is no C compiler"
	}
	if p.missing != "" {
		return p, nil
	}
	home := protocol.Home{}
	for _, v := range b.agent.env {
		if value, ok := strings.CutPrefix(v, "HOME="); ok {
			home.Home = value
		}
	}
	request, err := protocol.AppendTokenRequest(nil, protocol.TokenRequest{Home: home})
	if err != nil {
		return program{}, err
	}
	source, built := filepath.Join(b.dir, "floor.c"), filepath.Join(b.dir, "floor.built")
	if err := os.WriteFile(source, []byte(floorSource), 0o600); err != nil {
		return program{}, err
	}
	bytes := strings.Trim(strings.ReplaceAll(fmt.Sprint(request), " ", ","), "[]")
	if _, err := b.command(ctx, compiler, os.Environ(), "", "-O2", "-ffreestanding", "-fno-stack-protector", "-fno-pie", "-no-pie",
		"-static", "-nostdlib", "-s", "-Wall", "-Werror", "-o", built, "-DREQUEST="+bytes,
		fmt.Sprintf("-DFOLDER=%q", filepath.Dir(b.agent.socket)), fmt.Sprintf("-DSOCKET=%q", b.agent.socket), source); err != nil {
		return program{}, err
	}
	if err := install(built, p.path); err != nil {
		return program{}, err
	}
	out, err := b.command(ctx, p.path, p.env, "")
	if err == nil && out != fakeToken+"\n" {
		err = errors.New("the floor printed something else than the token")
	}
	return p, err
}

// compiler finds the machine's C compiler, "" if there is none.
func compiler() string {
	for _, name := range []string{os.Getenv("CC"), "cc", "gcc", "clang"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}
