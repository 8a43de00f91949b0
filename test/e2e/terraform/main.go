// Command terraform asks a host which services it has, as Terraform does before it uses any: with the vendor's own library for
// that, and the credentials helper that the CLI's configuration file names, read by the parser that the CLI uses. It is a module
// of its own: nothing else here needs those.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl"
	svchost "github.com/hashicorp/terraform-svchost"
	"github.com/hashicorp/terraform-svchost/auth"
	"github.com/hashicorp/terraform-svchost/disco"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "terraform:", err)
		os.Exit(1)
	}
}

func run(name string) error {
	text, err := os.ReadFile(filepath.Join(os.Getenv("HOME"), ".terraformrc"))
	if err != nil {
		return err
	}
	var config struct {
		Helpers map[string]struct {
			Args []string `hcl:"args"`
		} `hcl:"credentials_helper"`
	}
	if err := hcl.Decode(&config, string(text)); err != nil {
		return err
	}
	host, err := svchost.ForComparison(name)
	if err != nil {
		return err
	}
	for helper, settings := range config.Helpers {
		program := filepath.Join(os.Getenv("HOME"), ".terraform.d/plugins/terraform-credentials-"+helper)
		source := auth.HelperProgramCredentialsSource(program, settings.Args...)
		services, err := disco.NewWithCredentialsSource(source).Discover(host)
		if err != nil {
			return err
		}
		url, err := services.ServiceURL("modules.v1")
		if err != nil {
			return err
		}
		fmt.Println(url)
	}
	return nil
}
